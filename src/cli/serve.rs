//! `ocelli serve`: the page, on this machine alone.

mod request;

use std::fs::File;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;

use request::{Refused, Until, read_request, refuse, shown};

/// Show the page: attention, features, matching and training in a browser
///
/// Only this machine can reach it: open http://127.0.0.1:PORT or http://localhost:PORT. Requests for other names are refused.
#[derive(Args)]
#[command(after_help = "Examples:\n  cargo xtask web && ocelli serve\n  ocelli serve --dir web/dist --port 9000")]
pub struct ServeArgs {
    /// Folder of the page, made by `cargo xtask web`
    #[arg(long, default_value = "web/dist")]
    dir: PathBuf,
    /// Port; 0 takes any that is free
    #[arg(long, default_value_t = 8000)]
    port: u16,
}

/// What the page may do: run its own scripts and its module, nothing from elsewhere; fetch weights where the user says.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; \
                      img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self' https:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// How long a request may take to arrive, and its reader to take each part of the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections that are answered at once. A browser opens about six; more wait for their turn.
const THREADS: usize = 16;

pub fn run(args: &ServeArgs) -> anyhow::Result<()> {
    if !args.dir.join("index.html").is_file() {
        bail!(
            "--dir: expected the page in {}, found no index.html there; `cargo xtask web` makes it",
            args.dir.display()
        );
    }
    let root = args.dir.canonicalize().with_context(|| format!("cannot open {}", args.dir.display()))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port)).with_context(|| {
        format!("--port: cannot listen on {}; another program may have it, 0 takes any", args.port)
    })?;
    let address = listener.local_addr()?;
    println!("http://{address}/  (Ctrl-C ends it)");
    io::stdout().flush()?;
    Site { root, hosts: hosts(address), patience: PATIENCE }.serve(&listener, THREADS);
    Ok(())
}

/// What is served, and to whom.
struct Site {
    root: PathBuf,
    /// What a request may call this machine.
    hosts: Vec<String>,
    patience: Duration,
}

/// The names of this machine with the port it listens on. A page from elsewhere whose own name was made to lead here (DNS
/// rebinding) asks for that name, and gets nothing.
fn hosts(address: SocketAddr) -> Vec<String> {
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned(), "[::1]".to_owned()];
    let mut hosts: Vec<String> = names.iter().map(|name| format!("{name}:{}", address.port())).collect();
    if address.port() == 80 {
        // Browsers leave the usual port out.
        hosts.extend(names);
    }
    let own = address.to_string();
    if !hosts.contains(&own) {
        hosts.push(own);
    }
    hosts
}

impl Site {
    /// Answers on so many threads, for as long as the process lives.
    fn serve(&self, listener: &TcpListener, threads: usize) {
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| self.work(listener));
            }
        });
    }

    fn work(&self, listener: &TcpListener) {
        for stream in listener.incoming() {
            match stream {
                // A browser that goes away in the middle is nobody's error.
                Ok(stream) => {
                    let _ = self.answer(&stream);
                }
                // No files left, for example: trying again at once would only keep the processor busy.
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Reads one request and answers it.
    fn answer(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_write_timeout(Some(self.patience))?;
        let deadline = Instant::now() + self.patience;
        let request = match read_request(Until { stream, deadline }) {
            Ok(request) => request,
            Err(refused) => return refuse(stream, &refused),
        };
        if !request.host.as_ref().is_some_and(|host| self.hosts.iter().any(|h| h.eq_ignore_ascii_case(host))) {
            let found = request.host.map_or_else(|| "no name".to_owned(), |host| format!("{:?}", shown(&host)));
            let words = format!(
                "expected a request for {}, found {found}; open http://{}/ or http://{}/",
                self.hosts.join(", "),
                self.hosts[0],
                self.hosts[1]
            );
            return refuse(stream, &Refused { status: "403 Forbidden", words });
        }
        if request.method != "GET" && request.method != "HEAD" {
            let words = format!("expected GET or HEAD, found {:?}", shown(&request.method));
            return refuse(stream, &Refused { status: "405 Method Not Allowed", words });
        }
        let Some((mut file, name)) = find(&self.root, &request.target) else {
            let words = format!("there is no file {:?}", shown(&request.target));
            return refuse(stream, &Refused { status: "404 Not Found", words });
        };
        let mut out = stream;
        let length = file.metadata()?.len();
        write!(
            out,
            "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nContent-Length: {length}\r\nContent-Security-Policy: {POLICY}\r\n\
             X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-cache\r\nConnection: \
             close\r\n\r\n",
            content_type(&name)
        )?;
        if request.method == "GET" {
            io::copy(&mut file, &mut out)?;
        }
        out.flush()
    }
}

/// The file below `root` that a request's target means.
fn find(root: &Path, target: &str) -> Option<(File, PathBuf)> {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let decoded = percent_decoded(path.strip_prefix('/')?)?;
    let name = if decoded.is_empty() { "index.html".into() } else { decoded };
    let relative = Path::new(&name);
    if !relative.components().all(|c| matches!(c, Component::Normal(_))) {
        return None;
    }
    // Links may lead outside.
    let file = root.join(relative).canonicalize().ok().filter(|f| f.starts_with(root) && f.is_file())?;
    Some((File::open(&file).ok()?, file))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(out).ok().filter(|s| !s.contains('\0'))
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|e| e.to_str()).unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "wasm" => "application/wasm",
        "png" => "image/png",
        "webp" => "image/webp",
        "jpg" | "jpeg" => "image/jpeg",
        "svg" => "image/svg+xml",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::request::MAX_REQUEST;
    use super::*;

    #[test]
    fn only_files_below_the_folder_are_found() {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("page");
        std::fs::create_dir_all(root.join("models")).unwrap();
        for (name, text) in [("secret", "no"), ("page/index.html", "yes"), ("page/models/a b.wasm", "wasm")] {
            std::fs::write(outside.path().join(name), text).unwrap();
        }
        let root = root.canonicalize().unwrap();
        for target in ["/", "/index.html", "/index.html?x=1", "/models/a%20b.wasm"] {
            assert!(find(&root, target).is_some(), "{target}");
        }
        for target in [
            "",
            "index.html",
            "/../secret",
            "/%2e%2e/secret",
            "/models/../../secret",
            "//etc/passwd",
            "/models",
            "/%",
            "/%zz",
            "/%00",
        ] {
            assert!(find(&root, target).is_none(), "{target}");
        }
        assert_eq!(content_type(&find(&root, "/models/a%20b.wasm").unwrap().1), "application/wasm");
    }

    /// A page of one file that is served on `threads` until the tests end: where, and its folder.
    fn served(threads: usize, patience: Duration) -> (SocketAddr, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("index.html"), "the page").unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let site = Site { root: folder.path().canonicalize().unwrap(), hosts: hosts(address), patience };
        thread::spawn(move || site.serve(&listener, threads));
        (address, folder)
    }

    /// What is said to a request.
    fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    }

    #[test]
    fn a_request_is_answered_with_the_policy() {
        let (address, _folder) = served(2, PATIENCE);
        let found = ask(address, &format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n"));
        assert!(found.starts_with("HTTP/1.1 200") && found.ends_with("\r\n\r\nthe page"), "{found}");
        assert!(found.contains("text/html") && found.contains("script-src 'self' 'wasm-unsafe-eval'"), "{found}");
        let head = ask(address, &format!("HEAD / HTTP/1.1\r\nHost: {address}\r\n\r\n"));
        assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
        let request = |line: &str| ask(address, &format!("{line}\r\nHost: {address}\r\n\r\n"));
        assert!(request("GET /nothing HTTP/1.1").starts_with("HTTP/1.1 404"));
        assert!(request("POST / HTTP/1.1").starts_with("HTTP/1.1 405"));
    }

    #[test]
    fn only_this_machines_names_are_answered() {
        let (address, _folder) = served(2, PATIENCE);
        let port = address.port();
        let other = if port == 1024 { 1025 } else { 1024 };
        for host in [
            format!("127.0.0.1:{port}"),
            format!("localhost:{port}"),
            format!("LocalHost:{port}"),
            format!("[::1]:{port}"),
        ] {
            let said = ask(address, &format!("GET / HTTP/1.1\r\nAccept: */*\r\nhOsT: {host} \r\n\r\n"));
            assert!(said.starts_with("HTTP/1.1 200"), "{host}: {said}");
        }
        for headers in [
            String::new(),
            "Host: rebound.example\r\n".into(),
            format!("Host: rebound.example:{port}\r\n"),
            format!("Host: localhost:{other}\r\n"),
            "Host: localhost\r\n".into(),
            format!("Host: localhost:{port}.rebound.example\r\n"),
            format!("Host: localhost:{port}\r\nHost: rebound.example\r\n"),
        ] {
            let said = ask(address, &format!("GET / HTTP/1.1\r\n{headers}\r\n"));
            assert!(said.starts_with("HTTP/1.1 403") && !said.ends_with("the page"), "{headers}: {said}");
            assert!(said.contains(&format!("localhost:{port}")), "it says what to open: {said}");
        }
        assert_eq!(hosts(([127, 0, 0, 1], 80).into())[3..6], ["127.0.0.1", "localhost", "[::1]"]);
    }

    #[test]
    fn a_request_has_a_length_and_a_time() {
        let patience = Duration::from_millis(300);
        let (address, _folder) = served(2, patience);
        let long = "x".repeat(MAX_REQUEST as usize);
        let said = ask(address, &format!("GET / HTTP/1.1\r\nHost: {address}\r\nX: {long}\r\n\r\n"));
        assert!(said.starts_with("HTTP/1.1 431") && said.contains("16384 bytes"), "{said}");

        // One byte at a time, each well within the patience: it counts for all of them together.
        let mut stream = TcpStream::connect(address).unwrap();
        let (mut other_end, started) = (stream.try_clone().unwrap(), Instant::now());
        let closed = thread::spawn(move || {
            // Closed with bytes on their way is an error here, and closed all the same.
            let _ = other_end.read_to_end(&mut Vec::new());
            started.elapsed()
        });
        for _ in 0..200 {
            if stream.write_all(b"x").is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(30));
        }
        let closed = closed.join().unwrap();
        assert!(closed < Duration::from_secs(4), "a request that took 6 s was waited for: {closed:?}");

        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    }

    #[test]
    fn silent_connections_take_no_more_than_their_threads_and_their_time() {
        let patience = Duration::from_millis(300);
        let (address, _folder) = served(2, patience);
        let silent: Vec<TcpStream> = (0..6).map(|_| TcpStream::connect(address).unwrap()).collect();
        let started = Instant::now();
        let said = ask(address, &format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n"));
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        // Six on two threads: three rounds before its turn.
        assert!(started.elapsed() >= 2 * patience, "{:?}: more than two threads answered", started.elapsed());
        drop(silent);
    }
}
