//! A reader of server-sent events.

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
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        // In HTTP/1.0 an answer ends with its connection: there are no chunks to put together.
        let request = format!("GET {path} HTTP/1.0\r\nhost: h\r\naccept: text/event-stream\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.expect("a request is sent");
        let (reader, last_id) = (BufReader::new(stream), String::new());
        let mut opened = Self { reader, head: Vec::new(), last_id, retry_ms: None };
        while let Some(line) = opened.line().await.filter(|line| !line.is_empty()) {
            opened.head.push(line.to_lowercase());
        }
        opened
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
        let (mut event, mut data) = ("message".to_owned(), None::<String>);
        loop {
            let line = self.line().await?;
            match line.split_once(':').map(|(field, value)| (field, value.trim_start_matches(' '))) {
                None if line.is_empty() => {
                    if let Some(data) = data {
                        return Some(ServerEvent { event, data });
                    }
                    event = "message".to_owned();
                }
                Some(("event", value)) => value.clone_into(&mut event),
                Some(("data", value)) => data = Some(data.map_or_else(|| value.to_owned(), |data| data + "\n" + value)),
                _ => {}
            }
        }
    }

    /// Reads on until an id has come.
    pub async fn opened(&mut self) {
        while self.last_id.is_empty() {
            self.line().await.expect("the stream goes on");
        }
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = timeout(DEADLINE, self.reader.read_line(&mut line)).await.expect("something comes in time");
        let line = line.trim_end_matches(['\r', '\n']);
        if let Some(id) = line.strip_prefix("id: ") {
            id.clone_into(&mut self.last_id);
        } else if let Some(retry) = line.strip_prefix("retry: ") {
            self.retry_ms = retry.parse().ok();
        }
        (read.ok()? > 0).then(|| line.to_owned())
    }
}
