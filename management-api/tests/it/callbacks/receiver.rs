//! Receivers of callbacks that do as the test says, down to the byte.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use management_api::callbacks::sending::Resolve;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a receiver was sent.
#[derive(Clone, Debug)]
pub struct Seen {
    pub request_line: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// What it does about it.
pub enum Reply {
    /// It answers with these bytes, and waits for what comes next.
    Answer(String),
    /// It answers with these bytes, or none, and closes the connection.
    Close(String),
    /// It answers with a few bytes and drips a byte at a time from then on, without end.
    Drip(String),
    /// It says nothing more.
    Hang,
}

type Script = Box<dyn Fn(usize) -> Reply + Send + Sync>;

/// A receiver; it ends with its test's runtime.
pub struct Receiver {
    pub address: SocketAddr,
    connections: AtomicUsize,
    ended: AtomicUsize,
    seen: Mutex<Vec<Seen>>,
    script: Script,
}

impl Receiver {
    /// One that answers its `n`th request, counted from 0, as the script says.
    pub async fn start(script: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Arc<Self> {
        Self::start_with(None, script).await
    }

    pub async fn start_with(
        tls: Option<TlsAcceptor>,
        script: impl Fn(usize) -> Reply + Send + Sync + 'static,
    ) -> Arc<Self> {
        // All addresses, so that whatever leads to this machine would lead here.
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
        let receiver = Arc::new(Self {
            address,
            connections: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            seen: Mutex::default(),
            script: Box::new(script),
        });
        let accepting = Arc::clone(&receiver);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                accepting.connections.fetch_add(1, Ordering::SeqCst);
                let (receiver, tls) = (Arc::clone(&accepting), tls.clone());
                tokio::spawn(async move {
                    let served = match tls {
                        None => receiver.serve(stream).await,
                        Some(tls) => receiver.serve(tls.accept(stream).await?).await,
                    };
                    receiver.ended.fetch_add(1, Ordering::SeqCst);
                    served
                });
            }
        });
        receiver
    }

    /// One that takes everything.
    pub async fn willing() -> Arc<Self> {
        Self::start(|_| answer("200 OK", "")).await
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        self.connections() - self.ended.load(Ordering::SeqCst)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        loop {
            let request = read_request(&mut stream).await?;
            let index = {
                let mut seen = self.seen.lock().unwrap();
                seen.push(request);
                seen.len() - 1
            };
            match (self.script)(index) {
                Reply::Answer(text) => stream.write_all(text.as_bytes()).await?,
                Reply::Close(text) => {
                    stream.write_all(text.as_bytes()).await?;
                    return stream.shutdown().await;
                }
                Reply::Drip(text) => {
                    stream.write_all(text.as_bytes()).await?;
                    loop {
                        stream.write_all(b"x").await?;
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
                Reply::Hang => std::future::pending().await,
            }
        }
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Seen> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.trim_end().lines();
    let request_line = lines.next().unwrap_or_default().to_owned();
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Seen { request_line, headers, body })
}

/// An answer without a body, with more header lines.
pub fn answer(status: &str, headers: &str) -> Reply {
    Reply::Answer(format!("HTTP/1.1 {status}\r\n{headers}content-length: 0\r\n\r\n"))
}

/// Tells addresses as the test says, one answer after the other; the last one again and again.
pub struct FakeResolver {
    answers: Mutex<VecDeque<Vec<SocketAddr>>>,
    asked: Mutex<Vec<String>>,
}

impl FakeResolver {
    pub fn new<const N: usize>(answers: [&[SocketAddr]; N]) -> Arc<Self> {
        let answers = answers.map(<[SocketAddr]>::to_vec).into();
        Arc::new(Self { answers: Mutex::new(answers), asked: Mutex::default() })
    }

    /// The names that it was asked for.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl Resolve for FakeResolver {
    async fn resolve(&self, name: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        self.asked.lock().unwrap().push(name.to_owned());
        let mut answers = self.answers.lock().unwrap();
        let first = answers.pop_front().ok_or_else(|| io::Error::other("no such name"))?;
        if answers.is_empty() {
            answers.push_back(first.clone());
        }
        Ok(first)
    }
}
