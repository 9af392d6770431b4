//! Against a server on the loopback interface, with an archive like that of a release.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::watch::Interrupt;

/// Answers every request with these bytes, for as long as the test lives.
struct Server {
    url: String,
    asked: Arc<AtomicUsize>,
}

impl Server {
    fn new(answer: impl Fn(&mut TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/releases/", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if stream.read(&mut byte).unwrap_or(0) == 0 {
                        break;
                    }
                    request.push(byte[0]);
                }
                let request = String::from_utf8_lossy(&request).into_owned();
                assert!(
                    request.starts_with("GET /releases/v9.9.9/firecracker-v9.9.9-x86_64.tgz "),
                    "{request}"
                );
                count.fetch_add(1, Ordering::SeqCst);
                answer(&mut stream);
            }
        });
        Self { url, asked }
    }

    fn with(status: &'static str, body: Vec<u8>, claimed: usize) -> Self {
        Self::new(move |stream| {
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {claimed}\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        })
    }

    fn times_asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// An archive with the programs of a release, and with things that are not to be unpacked.
fn archive(names: &[&str]) -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    for name in names {
        let content = format!("this is {name}");
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, format!("release-v9.9.9-x86_64/{name}"), content.as_bytes())
            .unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn good() -> Vec<u8> {
    archive(&["firecracker-v9.9.9-x86_64", "jailer-v9.9.9-x86_64", "snapshot-editor", "LICENSE"])
}

fn release_of(archive: &[u8]) -> Release {
    let digest = Sha256::digest(archive);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Release { version: "9.9.9", sha256: hex.leak() }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_release_is_installed_once_and_nothing_else_of_it() {
    let home = tempfile::tempdir().unwrap();
    let programs = home.path().join("programs");
    fs::create_dir(&programs).unwrap();
    fs::create_dir(programs.join(".partial-left")).unwrap();
    let server = Server::with("200 OK", good(), good().len());
    let watch = Watch::default();
    let release = release_of(&good());
    let installed = fetch(release, &programs, &server.url, &watch).await.unwrap();
    assert!(!installed.already_installed);
    assert_eq!(fs::read(&installed.path).unwrap(), b"this is firecracker-v9.9.9-x86_64");
    assert_eq!(fs::metadata(&installed.path).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(names(&programs), [".lock", "firecracker-9.9.9"]);
    assert_eq!(names(&programs.join("firecracker-9.9.9")), ["firecracker", "jailer"]);

    let again = fetch(release, &programs, &server.url, &watch).await.unwrap();
    assert!(again.already_installed && again.path == installed.path);
    assert_eq!(server.times_asked(), 1);

    // A part of it is gone: it is made whole again.
    fs::remove_file(programs.join("firecracker-9.9.9/jailer")).unwrap();
    assert!(!fetch(release, &programs, &server.url, &watch).await.unwrap().already_installed);
    assert_eq!(names(&programs.join("firecracker-9.9.9")), ["firecracker", "jailer"]);
}

#[tokio::test]
async fn many_at_once_fetch_it_once() {
    let home = tempfile::tempdir().unwrap();
    let programs = home.path().join("programs");
    let server = Server::with("200 OK", good(), good().len());
    let release = release_of(&good());
    let all = (0..4).map(|_| {
        let (programs, url) = (programs.clone(), server.url.clone());
        tokio::spawn(async move { fetch(release, &programs, &url, &Watch::default()).await })
    });
    for one in all.collect::<Vec<_>>() {
        one.await.unwrap().unwrap();
    }
    assert_eq!(server.times_asked(), 1);
}

#[tokio::test]
async fn what_is_not_the_release_is_not_installed() {
    let whole = good();
    let half = whole[..whole.len() / 2].to_vec();
    let release = release_of(&whole);
    let lacking = archive(&["firecracker-v9.9.9-x86_64", "README"]);
    let lacks = release_of(&lacking);
    for (server, release, code, said) in [
        (Server::with("200 OK", b"other".to_vec(), 5), release, ErrorCode::Damaged, "sha256"),
        (
            Server::with("200 OK", half.clone(), whole.len()),
            release,
            ErrorCode::MissingDependency,
            "http://",
        ),
        (Server::with("200 OK", half.clone(), half.len()), release, ErrorCode::Damaged, "sha256"),
        (
            Server::with("404 Not Found", b"no".to_vec(), 2),
            release,
            ErrorCode::MissingDependency,
            "404",
        ),
        (
            Server::with("200 OK", lacking.clone(), lacking.len()),
            lacks,
            ErrorCode::Damaged,
            "jailer",
        ),
    ] {
        let home = tempfile::tempdir().unwrap();
        let error = fetch(release, home.path(), &server.url, &Watch::default()).await.unwrap_err();
        assert_eq!(error.code, code, "{error:?}");
        assert!(error.cause.as_ref().unwrap().contains(said), "{error:?}");
        assert!(error.hint.as_ref().unwrap().contains("nothing was installed"), "{error:?}");
        assert_eq!(names(home.path()), [".lock"], "{error:?}");
    }
}

#[tokio::test]
async fn without_a_network_it_says_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}");
    let release = release_of(&good());
    let error = fetch(release, home.path(), &url, &Watch::default()).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::MissingDependency);
    let hint = error.hint.unwrap();
    assert!(hint.contains("PYRO_FIRECRACKER_MIRROR") && hint.contains("PYRO_FIRECRACKER"));
    assert_eq!(names(home.path()), [".lock"]);
}

#[test]
fn an_interrupt_ends_it_at_once_although_the_server_stands_still() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(interrupted_while_the_server_stands_still());
    // Not by dropping it, which would wait for the thread that still reads.
    runtime.shutdown_background();
}

async fn interrupted_while_the_server_stands_still() {
    let home = tempfile::tempdir().unwrap();
    let (tell, begun) = std::sync::mpsc::channel();
    let server = Server::new(move |stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome");
        tell.send(()).unwrap();
        std::thread::sleep(Duration::from_secs(30));
    });
    let interrupt = Interrupt::default();
    let watch = Watch::new(Arc::new(pyro_contract::progress::Silent), interrupt.clone());
    let began = std::time::Instant::now();
    let trigger = tokio::task::spawn_blocking(move || {
        begun.recv().unwrap();
        interrupt.trigger();
    });
    let release = release_of(&good());
    let error = fetch(release, home.path(), &server.url, &watch).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Cancelled);
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(names(home.path()), [".lock"]);
    trigger.await.unwrap();
}

#[test]
fn the_pinned_release_has_a_digest_and_a_url() {
    assert_eq!(FIRECRACKER.sha256.len(), 64);
    assert!(FIRECRACKER.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(
        FIRECRACKER.url(GITHUB),
        "https://github.com/firecracker-microvm/firecracker/releases/download/v1.15.1/\
         firecracker-v1.15.1-x86_64.tgz"
    );
}
