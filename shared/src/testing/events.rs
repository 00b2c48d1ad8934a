//! A reader of server-sent events.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::DEADLINE;

/// An open stream of events. Dropped, it hangs up.
pub struct EventStream {
    reader: BufReader<TcpStream>,
    /// The answer's head, line by line, in lower case.
    pub head: Vec<String>,
    /// The last id that came.
    pub last_id: String,
    /// The last pause that was asked for, in milliseconds.
    pub retry_ms: Option<u32>,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerEvent {
    /// Its type.
    pub event: String,
    /// What it says.
    pub data: String,
}

impl EventStream {
    /// Opens `path`, with these headers besides.
    ///
    /// # Panics
    /// When there is no answer in time.
    pub async fn open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        Self::try_open(address, path, headers).await.expect("an answer")
    }

    /// As [`EventStream::open`], where the server may be gone.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn try_open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        let headers: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let headers = headers.concat();
        // In HTTP/1.0 an answer ends with its connection: there are no chunks to put together.
        let request = format!("GET {path} HTTP/1.0\r\nhost: h\r\naccept: text/event-stream\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let reader = BufReader::new(stream);
        let mut opened = Self { reader, head: Vec::new(), last_id: String::new(), retry_ms: None };
        loop {
            let line = opened.line().await.ok_or(io::ErrorKind::UnexpectedEof)?;
            if line.is_empty() {
                return Ok(opened);
            }
            opened.head.push(line.to_lowercase());
        }
    }

    /// The answer's status.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head[0].split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
    }

    /// The next event; nothing when the stream ends.
    pub async fn next(&mut self) -> Option<ServerEvent> {
        loop {
            let (event, data) = self.block().await?;
            if let Some(data) = data {
                return Some(ServerEvent { event, data });
            }
        }
    }

    /// Reads on until an id has come.
    ///
    /// # Panics
    /// When the stream ends before.
    pub async fn opened(&mut self) {
        while self.last_id.is_empty() {
            self.block().await.expect("the stream goes on");
        }
    }

    /// What stands before the next empty line. Only with that an id counts: what was cut off is sent again.
    async fn block(&mut self) -> Option<(String, Option<String>)> {
        let (mut event, mut data, mut id) = ("message".to_owned(), None::<String>, None);
        loop {
            let line = self.line().await?;
            match line.split_once(':').map(|(field, value)| (field, value.trim_start_matches(' '))) {
                None if line.is_empty() => {
                    self.last_id = id.unwrap_or_else(|| std::mem::take(&mut self.last_id));
                    return Some((event, data));
                }
                Some(("event", value)) => value.clone_into(&mut event),
                Some(("data", value)) => data = Some(data.map_or_else(|| value.to_owned(), |data| data + "\n" + value)),
                Some(("id", value)) => id = Some(value.to_owned()),
                Some(("retry", value)) => self.retry_ms = value.parse().ok(),
                _ => {}
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = timeout(DEADLINE, self.reader.read_line(&mut line)).await.expect("something comes in time");
        let is_whole = read.is_ok() && line.ends_with('\n');
        is_whole.then(|| line.trim_end_matches(['\r', '\n']).to_owned())
    }
}
