//! A keep-alive HTTP/1.1 connection that does as little as possible: the server shares its cores with this client.

use std::{fmt, io};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A bound on an answer's size.
const ANSWER_MAX_BYTES: usize = 1 << 20;
const READ_BYTES: usize = 4096;

/// One connection; usable until an exchange fails or says that it was the last.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

/// An answer, borrowed from the connection until the next exchange.
#[derive(Debug)]
pub(crate) struct Response<'a> {
    pub status: u16,
    pub body: &'a [u8],
    /// The server closes the connection after this answer.
    pub is_last: bool,
}

/// What the head of an answer says.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Length of the head, the empty line included.
    length: usize,
    body_length: usize,
    is_last: bool,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::with_capacity(READ_BYTES) })
    }

    /// Sends a whole request and reads the whole answer. After an error it is unknown whether the request arrived.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> io::Result<Response<'_>> {
        self.received.clear();
        self.stream.write_all(request).await?;
        let head = loop {
            self.read_more().await?;
            if let Some(head) = parse_head(&self.received)? {
                break head;
            }
        };
        let length = head.length + head.body_length;
        while self.received.len() < length {
            self.read_more().await?;
        }
        let body = &self.received[head.length..length];
        Ok(Response { status: head.status, body, is_last: head.is_last })
    }

    async fn read_more(&mut self) -> io::Result<()> {
        self.received.reserve(READ_BYTES);
        let read = self.stream.read_buf(&mut self.received).await?;
        match read {
            0 if self.received.is_empty() => Err(invalid("the connection was closed before an answer")),
            0 => Err(invalid("the connection was closed inside an answer")),
            _ if self.received.len() > ANSWER_MAX_BYTES => Err(invalid("the answer is too large")),
            _ => Ok(()),
        }
    }
}

/// None while the head is not complete. Bodies need a `Content-Length`: our services always send one for a purchase.
fn parse_head(received: &[u8]) -> io::Result<Option<Head>> {
    let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&received[..end]).map_err(io::Error::other)?;
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let code = status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let status = code.and_then(|code| code.parse().ok()).ok_or_else(|| invalid(status_line))?;
    let mut body_length = None;
    let mut is_last = false;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            body_length = value.trim().parse().ok();
        } else if name.eq_ignore_ascii_case("connection") {
            is_last |= value.trim().eq_ignore_ascii_case("close");
        }
    }
    let body_length = body_length.ok_or_else(|| invalid("an answer without Content-Length"))?;
    Ok(Some(Head { status, length: end + 4, body_length, is_last }))
}

fn invalid(why: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_complete() {
        let answer = b"HTTP/1.1 202 Accepted\r\nContent-length: 5\r\nConnection: close\r\n\r\nhello";
        assert_eq!(parse_head(&answer[..40]).unwrap(), None);
        let expected = Head { status: 202, length: answer.len() - 5, body_length: 5, is_last: true };
        assert_eq!(parse_head(answer).unwrap(), Some(expected));
        parse_head(b"HTTP/1.1 abc\r\n\r\n").expect_err("no status");
        parse_head(b"HTTP/1.1 200 OK\r\n\r\n").expect_err("no length");
    }
}
