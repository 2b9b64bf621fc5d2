//! `ocelli serve`: the page, on this machine alone.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

/// Show the page: attention under the pointer, features, matching and training in a browser tab. Only this machine can
/// reach it.
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

/// Longest request line and headers that are read, bytes.
const MAX_REQUEST: u64 = 16 << 10;
const PATIENCE: Duration = Duration::from_secs(10);

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
    println!("http://{}/  (Ctrl-C ends it)", listener.local_addr()?);
    io::stdout().flush()?;
    let root: Arc<Path> = root.into();
    for stream in listener.incoming().flatten() {
        let root = root.clone();
        // A browser that goes away in the middle is nobody's error.
        thread::spawn(move || answer(stream, &root).ok());
    }
    Ok(())
}

/// Reads one request and answers it.
fn answer(mut stream: TcpStream, root: &Path) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?.take(MAX_REQUEST));
    let mut request = String::new();
    reader.read_line(&mut request)?;
    // The headers are read, or closing the connection could cut the answer off.
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if method != "GET" && method != "HEAD" {
        return refuse(&mut stream, "405 Method Not Allowed");
    }
    let Some((mut file, name)) = find(root, target) else { return refuse(&mut stream, "404 Not Found") };
    let length = file.metadata()?.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nContent-Length: {length}\r\nContent-Security-Policy: {POLICY}\r\n\
         X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-cache\r\nConnection: \
         close\r\n\r\n",
        content_type(&name)
    )?;
    if method == "GET" {
        io::copy(&mut file, &mut stream)?;
    }
    stream.flush()
}

fn refuse(stream: &mut TcpStream, status: &str) -> io::Result<()> {
    let body = format!("{status}\n");
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: \
         close\r\n\r\n{body}",
        body.len()
    )
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

    #[test]
    fn a_request_is_answered_with_the_policy() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("index.html"), "the page").unwrap();
        let root: Arc<Path> = folder.path().canonicalize().unwrap().into();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            for stream in listener.incoming().take(3).flatten() {
                answer(stream, &root).unwrap();
            }
        });
        let ask = |request: &str| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            said
        };
        let found = ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(found.starts_with("HTTP/1.1 200") && found.ends_with("\r\n\r\nthe page"), "{found}");
        assert!(found.contains("text/html") && found.contains("script-src 'self' 'wasm-unsafe-eval'"), "{found}");
        assert!(ask("GET /nothing HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
        assert!(ask("POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
        server.join().unwrap();
    }
}
