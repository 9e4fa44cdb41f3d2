// A small HTTP server for tests: one thread, one file, and whatever misbehaviour a test asks for.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

/// What a request looked like.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub path: String,
    pub range: Option<String>,
    pub if_range: Option<String>,
    pub authorization: Option<String>,
}

/// How a request is answered.
pub enum Answer {
    /// The file, ranges honoured.
    File,
    /// The file, but the connection ends after this many bytes of the body.
    Cut(usize),
    /// The whole file whatever was asked for.
    NoRange,
    /// This status, with these header lines and no body.
    Status(u16, String),
    /// The file under another length.
    Length(u64),
    /// No answer until the test is over.
    Silence,
}

type Answers = dyn Fn(usize, &Seen) -> Answer + Send + Sync;

pub struct Server {
    address: String,
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Seen>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `file` under every path; `answers` gets the request's number from 0.
    pub fn start(
        file: Vec<u8>,
        answers: impl Fn(usize, &Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (stopped, noted): (_, Arc<Mutex<Vec<Seen>>>) = (stop.clone(), seen.clone());
        let answers: Arc<Answers> = Arc::new(answers);
        let thread = std::thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(mut stream) = stream else { continue };
                let request = read(&stream);
                let number = noted.lock().unwrap().len();
                noted.lock().unwrap().push(request.clone());
                if let Answer::Silence =
                    respond(&mut stream, &file, &request, answers(number, &request))
                {
                    silent.push(stream);
                }
            }
        });
        Self {
            address,
            stop,
            seen,
            thread: Some(thread),
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read(stream: &TcpStream) -> Seen {
    let mut seen = Seen::default();
    let mut lines = BufReader::new(stream).lines();
    if let Some(Ok(first)) = lines.next() {
        seen.path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    }
    for line in lines.map_while(Result::ok) {
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(": ") else {
            continue;
        };
        let value = Some(value.to_owned());
        match name.to_ascii_lowercase().as_str() {
            "range" => seen.range = value,
            "if-range" => seen.if_range = value,
            "authorization" => seen.authorization = value,
            _ => {}
        }
    }
    seen
}

fn respond(stream: &mut TcpStream, file: &[u8], seen: &Seen, answer: Answer) -> Answer {
    let start: usize = seen
        .range
        .as_deref()
        .and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse()
                .ok()
        })
        .unwrap_or(0);
    let all = file.len();
    let whole = format!("200 OK\r\nETag: \"one\"\r\nContent-Length: {all}");
    let part = |start: usize| {
        format!(
            "206 Partial Content\r\nETag: \"one\"\r\nContent-Range: bytes {start}-{}/{all}\r\nContent-Length: {}",
            all - 1,
            all - start
        )
    };
    let (head, body) = match &answer {
        Answer::File if start >= all && start > 0 => (
            format!(
                "416 Range Not Satisfiable\r\nContent-Range: bytes */{all}\r\nContent-Length: 0"
            ),
            &[][..],
        ),
        Answer::File if start > 0 => (part(start), &file[start..]),
        Answer::Cut(len) if start > 0 => (part(start), &file[start..(start + len).min(all)]),
        Answer::Cut(len) => (whole, &file[..*len]),
        Answer::File | Answer::NoRange => (whole, file),
        Answer::Status(status, lines) => (
            format!("{status} Status\r\n{lines}Content-Length: 0"),
            &[][..],
        ),
        Answer::Length(len) => (format!("200 OK\r\nContent-Length: {len}"), file),
        Answer::Silence => return answer,
    };
    let _ = write!(stream, "HTTP/1.1 {head}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(body);
    answer
}
