"""Scores of the musical profile by mir_eval, the measures that the field compares itself with.

    uncook analyze --json SONG.flac > SONG.json     (for every song)
    musical_profile.py NAME=SONG.json:TRUTH.json[:SECONDS] ...

TRUTH.json: beats, downbeats, bpm_mean, meter, key {tonic_pc, majmin}, chords {start, end, label},
bass_notes and melody_notes {t, dur, midi}, drum_onsets {t, name}; times in seconds. SECONDS: only so much
of the song was given. PyPI: mir_eval numpy. Pitch accuracy is taken from the notes, every 10 ms within 50
cents, unvoiced frames counting as wrong. Rims and claps count as snares, shakers as closed hats. The last line says how many of the answers given with a
confidence above 0.9 are right.
"""
import json, sys, warnings
import numpy as np
import mir_eval

warnings.filterwarnings('ignore')
NAMES='acc1 acc2 beat down metr key root majm 7ths bRPA bnF mRPA mOA kick snar hat tom crsh ride'.split()
def contour(notes,n):
    y=np.zeros(n)
    for k in notes:
        a,b=int(np.ceil(k['t']*100)),int(np.ceil((k['t']+k['dur'])*100))
        y[a:b]=440*2**((k['midi']-69)/12)
    return y
def rpa(ref,est):
    m=ref>0
    if not m.any(): return np.nan
    e=est[m]; ok=np.zeros(m.sum(),bool); g=e>0
    ok[g]=np.abs(1200*np.log2(e[g]/ref[m][g]))<=50
    return ok.mean()
def oa(ref,est):
    ok=(ref<=0)&(est<=0); g=(ref>0)&(est>0)
    ok[g]=np.abs(1200*np.log2(est[g]/ref[g]))<=50
    return ok.mean()
def notef(r,e):
    if not r: return np.nan
    f=lambda x:(np.array([[k['t'],k['t']+max(k['dur'],.02)] for k in x]).reshape(-1,2),np.array([440*2**((k['midi']-69)/12) for k in x]))
    if not e: return 0.
    return mir_eval.transcription.precision_recall_f1_overlap(*f(r),*f(e),offset_ratio=None)[2]
def score(p,t,end,confs):
    cents=t.get('cents',0)/100
    cut=lambda l:[x for x in l if x<end]
    out={}
    bpm=p['tempo_bpm']['value'] if p['tempo_bpm'] else 0
    near=lambda f:abs(bpm-t['bpm_mean']*f)<=.04*t['bpm_mean']*f
    out['acc1']=near(1); out['acc2']=any(near(f) for f in (1,2,3,.5,1/3))
    ev=lambda r,e,w:mir_eval.onset.f_measure(np.array(sorted(r)),np.array(sorted(e)),window=w)[0] if r else np.nan
    out['beat']=ev(cut(t['beats']),cut(p['beats']),.07); out['down']=ev(cut(t['downbeats']),cut(p['downbeats']),.07)
    m=t['meter']; m=m if isinstance(m[1],int) else m[1]
    out['metr']=bool(p['meter'] and p['meter']['value']==m)
    k=p['key']; PC='C C# D D# E F F# G G# A A# B'.split()
    ref=f"{PC[t['key']['tonic_pc']]} {t['key']['majmin']}"
    out['key']=mir_eval.key.weighted_score(ref,f"{PC[k['value']['tonic']]} {k['value']['mode']}") if k else 0.
    lab=lambda l:l
    ri=np.array([[c['start'],min(c['end'],end)] for c in t['chords'] if c['start']<end]); rl=[c['label'] for c in t['chords'] if c['start']<end]
    ei=np.array([[c['start'],c['end']] for c in p['chords']]).reshape(-1,2); el=[c['label'] for c in p['chords']]
    if len(ei):
        ei,el=mir_eval.util.adjust_intervals(ei,el,ri.min(),ri.max(),mir_eval.chord.NO_CHORD,mir_eval.chord.NO_CHORD)
        iv,r2,e2=mir_eval.util.merge_labeled_intervals(ri,rl,ei,el); d=mir_eval.util.intervals_to_durations(iv)
        for n,f in (('root',mir_eval.chord.root),('majm',mir_eval.chord.majmin),('7ths',mir_eval.chord.sevenths)):
            out[n]=mir_eval.chord.weighted_accuracy(f(r2,e2),d)
    else: out['root']=out['majm']=out['7ths']=0
    n=int(min(end,p['seconds'])*100)
    sh=lambda l:[dict(x,midi=x['midi']+cents) for x in l if x['t']<end]
    tb,tm=sh(t['bass_notes']),sh(t['melody_notes'])
    pb=[x for x in p['bass_notes'] if x['t']<end]; pm=[x for x in p['melody_notes'] if x['t']<end]
    cb,cm=contour(tb,n),contour(tm,n)
    out['bRPA']=rpa(cb,contour(pb,n)); out['bnF']=notef(tb,pb)
    out['mRPA']=rpa(cm,contour(pm,n)); out['mOA']=oa(cm,contour(pm,n)) if tm else np.nan
    for key,nm,cl in (('kick',['kick'],['kick']),('snar',['snare','rim','clap'],['snare']),('hat',['hat_closed','hat_open','hat_pedal','shaker'],['hihat_closed','hihat_open']),('tom',['tom_lo','tom_mid','tom_hi'],['tom']),('crsh',['crash'],['crash']),('ride',['ride'],['ride'])):
        r=[d['t'] for d in t['drum_onsets'] if d['name'] in nm and d['t']<end]
        r=[x for i,x in enumerate(sorted(r)) if i==0 or x-sorted(r)[i-1]>.03]
        e=[d['t'] for d in p['drums'] if d['class'] in cl and d['t']<end]
        out[key]=ev(r,e,.05) if r else (np.nan if (key in('tom','crsh','ride') and not e) else 0. if e else 1. if key in('kick','snar','hat') else np.nan)
        for d in p['drums']:
            if d['class'] in cl and d['t']<end: confs.setdefault('drum',[]).append((d['confidence'],any(abs(d['t']-x)<=.05 for x in r)))
    for nm,tr,pr in (('bass',tb,pb),('mel',tm,pm)):
        for x in pr: confs.setdefault(nm,[]).append((x['confidence'],any(abs(x['t']-y['t'])<=.05 and abs(x['midi']-y['midi'])<=.5 for y in tr)))
    for c in p['chords']:
        mid=.5*(c['start']+c['end'])
        for y in t['chords']:
            if y['start']<=mid<y['end'] and mid<end:
                a,b=c['label'],y['label']
                ok=bool(mir_eval.chord.root([b],[a])[0]>0 and mir_eval.chord.majmin([b],[a])[0]!=0)
                confs.setdefault('chord',[]).append((c['confidence'],ok))
    if p['tempo_bpm']: confs.setdefault('tempo',[]).append((p['tempo_bpm']['confidence'],out['acc1']))
    if p['key']: confs.setdefault('key',[]).append((p['key']['confidence'],out['key']==1))
    if p['meter']: confs.setdefault('meter',[]).append((p['meter']['confidence'],out['metr']))
    return out


def main():
    confs, rows = {}, []
    print(f"{'':14}", ' '.join(f'{n:>5}' for n in NAMES))
    for arg in sys.argv[1:]:
        name, rest = arg.split('=', 1)
        profile, truth, *end = rest.split(':')
        p, t = json.load(open(profile)), json.load(open(truth))
        p = from_report(p.get('profile', p))
        end = float(end[0]) if end else 1e9
        p['seconds'] = min(end, max([c['end'] for c in t['chords']] + t['beats']))
        s = score(p, t, end, confs)
        rows.append([float(s[n]) for n in NAMES])
        print(f'{name:14}', ' '.join(f'{x:5.2f}' for x in rows[-1]))
    print(f"{'mean':14}", ' '.join(f'{x:5.2f}' for x in np.nanmean(np.array(rows), 0)))
    for kind, v in confs.items():
        sure = [ok for c, ok in v if c > .9]
        print(f'  {kind}: {len(sure)} of {len(v)} above 0.9' + (f', {np.mean(sure):.2f} right' if sure else ''))


def from_report(p):
    """The JSON of the command line, or a profile itself, as a profile."""
    if p.get('tempo_bpm') is not None and not isinstance(p['tempo_bpm'], dict):
        p['tempo_bpm'] = dict(value=p['tempo_bpm'], confidence=p.get('tempo_confidence', 0))
    if p.get('meter') is not None and not isinstance(p['meter'], dict):
        p['meter'] = dict(value=p['meter'], confidence=p.get('meter_confidence', 0))
    k = p.get('key')
    if k and 'value' not in k:
        pcs = 'C C# D D# E F F# G G# A A# B'.split()
        p['key'] = dict(value=dict(tonic=pcs.index(k['tonic']), mode=k['mode']), confidence=k.get('confidence', 0))
    return p


if __name__ == '__main__':
    main()
