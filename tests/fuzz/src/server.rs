//! A server on loopback that answers each request as a target says, and then closes the connection.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

/// Produces the answer to the request, whose head is given in lower case.
type Answer = Box<dyn Fn(&str) -> Vec<u8> + Send>;

#[derive(Default)]
struct Script {
    answers: VecDeque<Answer>,
    afterwards: Option<Answer>,
}

static SCRIPT: LazyLock<Mutex<Script>> = LazyLock::new(Mutex::default);

static ADDRESS: LazyLock<SocketAddr> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // The client may be gone.
            let _ = stream.and_then(serve);
        }
    });
    address
});

/// The server's address, with the answers to the next requests, and to all requests after them.
pub fn answering(answers: Vec<Answer>, afterwards: Answer) -> SocketAddr {
    *SCRIPT.lock().unwrap() = Script { answers: answers.into(), afterwards: Some(afterwards) };
    *ADDRESS
}

fn serve(stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.set_write_timeout(Some(Duration::from_secs(2)))?;
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let head = head.to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |text| text.parse().unwrap());
    reader.read_exact(&mut vec![0; length])?;
    let bytes = {
        let mut script = SCRIPT.lock().unwrap();
        match script.answers.pop_front() {
            Some(answer) => answer(&head),
            None => script.afterwards.as_ref().map(|answer| answer(&head)).unwrap_or_default(),
        }
    };
    reader.get_mut().write_all(&bytes)
}
