//! A request as `ocelli serve` reads it: of bounded length, in bounded time.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// Longest request line and headers that are read, bytes.
pub const MAX_REQUEST: u64 = 16 << 10;
/// Characters of a request that an answer repeats.
const SHOWN: usize = 80;
/// The status of a request that does not come to its end.
const LATE: &str = "408 Request Timeout";

/// A connection that is read until a moment, however slowly its bytes come.
pub struct Until<'s> {
    pub stream: &'s TcpStream,
    pub deadline: Instant,
}

impl io::Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut stream = self.stream;
        stream.read(buffer)
    }
}

/// What matters of a request.
#[derive(Debug, Default)]
pub struct Request {
    pub method: String,
    pub target: String,
    /// What it calls this machine; none where it says nothing, or several things.
    pub host: Option<String>,
}

/// Why a request gets no file: the status, and a sentence for whoever reads it.
#[derive(Debug)]
pub struct Refused {
    pub status: &'static str,
    pub words: String,
}

/// Reads the request line and the headers; what follows them is of no interest.
pub fn read_request(connection: impl io::Read) -> Result<Request, Refused> {
    let mut reader = BufReader::new(connection.take(MAX_REQUEST));
    let (mut request, mut hosts, mut lines) = (Request::default(), Vec::new(), 0usize);
    loop {
        let mut line = Vec::new();
        if let Err(error) = reader.read_until(b'\n', &mut line) {
            let late = [io::ErrorKind::TimedOut, io::ErrorKind::WouldBlock].contains(&error.kind());
            return Err(match late {
                true => Refused { status: LATE, words: "expected the whole request by now; send it again".into() },
                false => Refused { status: "400 Bad Request", words: format!("cannot read the request: {error}") },
            });
        }
        if line.last() != Some(&b'\n') {
            return Err(match reader.get_ref().limit() {
                0 => Refused {
                    status: "431 Request Header Fields Too Large",
                    words: format!("expected a request line and headers of at most {MAX_REQUEST} bytes"),
                },
                _ => Refused {
                    status: "400 Bad Request",
                    words: "expected an empty line after the headers, found the end".into(),
                },
            });
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches(['\r', '\n']);
        if lines == 0 {
            let mut words = line.split(' ').map(str::to_owned);
            request.method = words.next().unwrap_or_default();
            request.target = words.next().unwrap_or_default();
        } else if line.is_empty() {
            break;
        } else if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("host")
        {
            hosts.push(value.trim().to_owned());
        }
        lines += 1;
    }
    if hosts.len() == 1 {
        request.host = hosts.pop();
    }
    Ok(request)
}

/// The start of what a request said.
pub fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

/// Sends the refusal, and waits shortly for whoever asked to have read it.
pub fn refuse(mut stream: &TcpStream, refused: &Refused) -> io::Result<()> {
    let Refused { status, words } = refused;
    let body = format!("{status}: {words}\n");
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    stream.flush()?;
    if *status == LATE {
        return Ok(());
    }
    // Closing while something is unread could cut the answer off.
    stream.shutdown(Shutdown::Write)?;
    let deadline = Instant::now() + Duration::from_secs(1);
    io::copy(&mut Until { stream, deadline }.take(1 << 20), &mut io::sink()).map(|_| ())
}
