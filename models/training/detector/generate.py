"""Generates the training pieces of the saturation model: audio and truth, from seeds alone.

usage: generate.py OUT    (numpy, scipy, soundfile and an ffmpeg with aac, libopus and libmp3lame)

Writes OUT/0.wav .. OUT/559.wav with OUT/0.npz .. (lab: truth per 10 ms frame) and OUT/list.
Then `cargo run --release --example detector_features OUT/list OUT/features` and `fit.py OUT`.
All sound is synthesized here: no recording and no one else's work goes into the model.
"""
import os, subprocess, sys
import numpy as np, soundfile as sf
from scipy.signal import butter,sosfilt,lfilter,fftconvolve,iirpeak,sawtooth

PIECES=560
OUT=sys.argv[1]
def song(rng,rate,sec):
    N=int(sec*rate); bpm=rng.uniform(70,170); beat=60/bpm; sw=rng.choice([2,2,2,3])
    t=np.arange(N)/rate
    drums=np.zeros(N);bass=np.zeros(N);other=np.zeros(N);vox=np.zeros(N)
    def add(b,at,s):
        i=int(at*rate)
        if i>=N or i<0: return
        s=s[:N-i]; b[i:i+len(s)]+=s
    kt=np.arange(int(.35*rate))/rate
    kf0=rng.uniform(40,65);kf1=rng.uniform(90,260);kd=rng.uniform(8,22)
    kick=np.sin(2*np.pi*np.cumsum(kf0+kf1*np.exp(-kt*rng.uniform(25,70)))/rate)*np.exp(-kt*kd)+rng.uniform(0,.3)*rng.standard_normal(len(kt))*np.exp(-kt*300)
    st=np.arange(int(.3*rate))/rate
    sn=rng.standard_normal(len(st)); sn=sosfilt(butter(2,[rng.uniform(700,1800)/(rate/2),min(rng.uniform(6000,14000),rate*.45)/(rate/2)],'band',output='sos'),sn)
    snare=sn*np.exp(-st*rng.uniform(12,35))*1.2+.7*np.sin(2*np.pi*rng.uniform(150,240)*st)*np.exp(-st*rng.uniform(18,40))
    def hat(d):
        h=rng.standard_normal(int(.4*rate)); h=sosfilt(butter(2,rng.uniform(5000,8500)/(rate/2),'high',output='sos'),h); return h*np.exp(-np.arange(len(h))/rate*d)
    hd=rng.uniform(25,90); hats=[hat(hd) for _ in range(4)]; oh=hat(rng.uniform(6,12)); cr=hat(rng.uniform(2,4))
    hg=rng.uniform(.08,.35); sg=rng.uniform(.5,1.1); kg=rng.uniform(.7,1.3)
    nb=int(sec/beat)+1; pat=rng.random((16,))<.25; fill=rng.random()<.85
    for b in range(nb):
        for k in range(sw):
            at=(b+k/sw)*beat+rng.normal(0,.004); v=rng.uniform(.7,1)
            if fill: add(drums,at,hg*v*(1 if k==0 else .7)*(oh if rng.random()<.07 else hats[rng.integers(4)]))
            ph=(b%4)*sw+k
            if fill and ((k==0 and b%2==0) or pat[ph%16]): add(drums,at,kg*v*kick)
            if fill and k==0 and b%2==1: add(drums,at,sg*v*snare)
        if fill and b%8==0 and rng.random()<.5: add(drums,b*beat,.3*cr)
    root=rng.integers(28,40); prog=rng.choice([[0,5,7,0],[0,8,3,10],[0,7,9,5],[0,3,5,7]]); 
    kind=rng.integers(4); cut=rng.uniform(300,2500)
    def note(f,d,kind,cut):
        n=int(d*rate); tt=np.arange(n)/rate
        if kind==0: s=sawtooth(2*np.pi*f*tt)
        elif kind==1: s=np.sin(2*np.pi*f*tt)+rng.uniform(.1,.5)*np.sin(4*np.pi*f*tt)+.1*np.sin(6*np.pi*f*tt)
        elif kind==2: s=np.sign(sawtooth(2*np.pi*f*tt)-rng.uniform(-.4,.4))*.6
        else: s=sum(np.sin(2*np.pi*f*h*tt*np.sqrt(1+1e-4*h*h))/h**rng.uniform(.8,1.6)*np.exp(-tt*(1.5+.7*h)) for h in range(1,20) if f*h<rate*.45)
        s=sosfilt(butter(2,min(cut,rate*.45)/(rate/2),output='sos'),s)
        e=np.minimum(tt/.006,1)*np.exp(-tt*rng.uniform(.5,4))*np.minimum((d-tt)/.02,1).clip(0)
        return s*e
    for b in range(nb):
        r=root+prog[(b//4)%4]
        for k in range(sw):
            if rng.random()<(.9 if k==0 else .35):
                f=440*2**((r+rng.choice([0,0,0,7,12])-69)/12); add(bass,(b+k/sw)*beat,note(f,beat/sw*rng.uniform(.6,1),kind,cut))
    ck=rng.integers(4); ccut=rng.uniform(1500,9000); dist=rng.random()<.35; dg=rng.uniform(3,15)
    for b in range(nb):
        r=root+24+prog[(b//4)%4]; m=[0,4,7] if rng.random()<.5 else [0,3,7]
        if rng.random()<.8:
            ch=0
            for iv in m+([10] if rng.random()<.3 else []):
                f=440*2**((r+iv-69)/12)
                add(other,b*beat+rng.uniform(0,.02),note(f,beat*rng.uniform(.5,1.8),ck,ccut)*.35)
    if dist:
        other=np.tanh(dg*other); other=sosfilt(butter(2,[90/(rate/2),rng.uniform(4000,7000)/(rate/2)],'band',output='sos'),other)*.4
    if rng.random()<.8:
        at=0.
        while at<sec:
            d=rng.uniform(.15,.7); f=440*2**((root+36+rng.choice([0,2,3,5,7,10,12])-69)/12); n=int(d*rate); tt=np.arange(n)/rate
            s=sawtooth(2*np.pi*(f*tt+.01*f/5.5*np.sin(2*np.pi*5.5*tt)/ (2*np.pi)))
            for F,B in [(rng.uniform(300,800),100),(rng.uniform(900,2200),140),(rng.uniform(2400,3400),200)]:
                b_,a_=iirpeak(F/(rate/2),F/B); s=s*.35+lfilter(b_,a_,s)*1.0
            s=s*np.minimum(tt/.03,1)*np.minimum((d-tt)/.04,1).clip(0)
            add(vox,at,s*.4)
            if rng.random()<.3: add(vox,at,hats[0]*.08)
            at+=d+rng.choice([0,0,.1,.4])
    def nrm(x): return x/(np.sqrt((x*x).mean())+1e-9)
    g=[rng.uniform(.7,1.4),rng.uniform(.6,1.3),rng.uniform(.4,1.1),rng.uniform(.3,1.)]
    st=[nrm(a)*b*.08 if np.any(a) else a for a,b in zip([drums,bass,other,vox],g)]
    if rng.random()<.5:
        rt=rng.uniform(.2,.6); n=int(rt*rate); ir=rng.standard_normal(n)*np.exp(-6.9*np.arange(n)/rate/rt); ir=sosfilt(butter(1,[200/(rate/2),7000/(rate/2)],'band',output='sos'),ir); ir/=np.sqrt((ir**2).sum())
        for i in (0,2,3): st[i]=st[i]+rng.uniform(.05,.25)*fftconvolve(st[i],ir)[:N]
    return st
def find_theta(x,fn,sdr):
    lo,hi=1e-4*abs(x).max(),abs(x).max()
    for _ in range(40):
        th=np.sqrt(lo*hi); y=fn(x,th); e=((x-y)**2).sum(); s=10*np.log10((x*x).sum()/max(e,1e-20))
        if s>sdr: hi=th
        else: lo=th
    return th
hard=lambda x,th:np.clip(x,-th,th)
soft=lambda x,th:th*np.tanh(x/th)
def asymf(a): return lambda x,th:np.clip(x,-a*th,th)
def mic(x,rate,rng):
    y=sosfilt(butter(int(rng.integers(2,5)),rng.uniform(90,320)/(rate/2),'high',output='sos'),x)
    y=sosfilt(butter(int(rng.integers(2,5)),min(rng.uniform(7500,15000),rate*.45)/(rate/2),output='sos'),y)
    f=rng.uniform(1500,4500); b,a=iirpeak(f/(rate/2),rng.uniform(1,3)); g=10**(rng.uniform(3,8)/20)
    return y+(g-1)*lfilter(b,a,y)
def room(x,rate,rng):
    rt=rng.uniform(.3,1.4); n=int(rt*rate); ir=rng.standard_normal(n)*np.exp(-6.9*np.arange(n)/rate/rt)*(1-.0*0); ir=sosfilt(butter(1,6000/(rate/2),output='sos'),ir)
    w=fftconvolve(x,ir)[:len(x)]; w*=np.sqrt((x*x).mean()/(w*w).mean()); drr=rng.uniform(-2,8); return x+w*10**(-drr/20)
def noise(x,rate,rng,snr):
    n=rng.standard_normal(len(x)); n=sosfilt(butter(1,[rng.uniform(100,400)/(rate/2),rng.uniform(1500,9000)/(rate/2)],'band',output='sos'),n)
    n*=1+.5*np.sin(2*np.pi*rng.uniform(.3,4)*np.arange(len(x))/rate)
    return x+n*np.sqrt((x*x).mean()/(n*n).mean())*10**(-snr/20)
def agc(x,rate):
    e=np.sqrt(np.maximum(1e-8,lfilter([1-np.exp(-1/(.05*rate))],[1,-np.exp(-1/(.05*rate))],x*x))); g=lfilter([1-np.exp(-1/(.2*rate))],[1,-np.exp(-1/(.2*rate))],np.minimum(.15/e,8)); return x*g
def codec(x,rate,kind):
    src=f'{OUT}/t_{os.getpid()}.wav'; p={'aac':'m4a','opus':'opus','mp3':'mp3'}[kind[0]]; mid=f'{OUT}/t_{os.getpid()}.{p}'; dst=f'{OUT}/t2_{os.getpid()}.wav'
    sf.write(src,x,rate,subtype='FLOAT'); c={'aac':'aac','opus':'libopus','mp3':'libmp3lame'}[kind[0]]
    subprocess.run(['ffmpeg','-v','error','-y','-i',src,'-c:a',c,'-b:a',f'{kind[1]}k',mid],check=True)
    subprocess.run(['ffmpeg','-v','error','-y','-i',mid,'-ar',str(rate),'-c:a','pcm_f32le',dst],check=True)
    y,_=sf.read(dst); y=y[:len(x)]; return np.r_[y,np.zeros(len(x)-len(y))]
def make(i):
    rng=np.random.default_rng(1000+i); rate=[44100,48000][i%2]; sec=7.
    st=song(rng,rate,sec); mixd=sum(st); N=len(mixd); clip=np.zeros(N,bool)
    # The first 240 pieces hold fewer clean ones: the set grew by 320.
    mode=rng.choice(['clean','clean']+['clean']*(i>=240)+['mix','mix','mix','stem','stem'])
    chain=rng.choice(['none','none','codec','mic','miccodec','gig'])
    x=mixd.copy()
    if chain=='gig': x=room(x,rate,rng); x=noise(x,rate,rng,rng.uniform(14,30))
    if mode=='mix':
        fn=[hard,hard,soft,asymf(rng.uniform(.5,.95))][rng.integers(4)]; sdr=rng.uniform(3,18); th=find_theta(x,fn,sdr); y=fn(x,th)
        clip=abs(x)>.9*th if fn is soft else (abs(y-x)>1e-9)
        x=y
    elif mode=='stem':
        a=rng.uniform(.8,3); b=a+rng.uniform(1.2,3); m=np.zeros(N); m[int(a*rate):int(b*rate)]=1
        fade=int(.005*rate); m=np.convolve(m,np.ones(fade)/fade,'same')
        fn=hard if rng.random()<.65 else soft; sdr=rng.uniform(2.5,7); 
        if rng.random()<.5: db=st[0]+st[1]; seg=db[int(a*rate):int(b*rate)]; th=find_theta(seg,fn,sdr); ydb=fn(db,th)
        else:
            ydb=0; 
            db=st[0]+st[1]
            for q in (0,1):
                seg=st[q][int(a*rate):int(b*rate)]; th=find_theta(seg,fn,sdr) if np.any(seg) else 1.; ydb=ydb+fn(st[q],th)
        x=x+m*(ydb-db); clip=m>.5
    if chain in('mic','miccodec','gig'): x=mic(x,rate,rng)
    if chain=='gig' and rng.random()<.7: x=agc(x,rate)
    x=x/abs(x).max()*rng.uniform(.3,.9)
    if chain=='codec' or chain=='miccodec' or chain=='gig': x=codec(x,rate,[('aac',64),('aac',64),('aac',128),('opus',24),('mp3',96)][rng.integers(5)])
    sf.write(f'{OUT}/{i}.wav',np.clip(x,-1,1),rate,subtype='PCM_16')
    fr=int(rate/100); nf=N//fr; c=clip[:nf*fr].reshape(nf,fr); lab=(c.mean(1)>.5) if mode=='stem' else c.any(1)
    np.savez(f'{OUT}/{i}.npz',lab=lab,mode=mode,chain=chain)
    return i
if __name__=='__main__':
    from multiprocessing import Pool
    os.makedirs(OUT,exist_ok=True)
    with Pool() as p:
        for _ in p.imap_unordered(make,range(PIECES)): pass
    with open(f'{OUT}/list','w') as f: f.write(''.join(f'{OUT}/{i}.wav\n' for i in range(PIECES)))
