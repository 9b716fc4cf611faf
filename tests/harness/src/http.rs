//! A plain HTTP/1.1 client: one request, one connection, one answer.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longer than any blocking query in the tests, short enough to see a hang.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// An HTTP API at an address.
#[derive(Debug, Clone, Copy)]
pub struct Api {
    addr: SocketAddr,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Header names in lower case, in order of arrival.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// Returns the first value of a header (name in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns the body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| {
            panic!("not JSON ({error}), status {}: {}", self.status, self.body)
        })
    }

    /// Returns the index for a blocking query.
    ///
    /// # Panics
    /// When the answer has none.
    pub fn index(&self) -> u64 {
        self.header("x-consul-index")
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| panic!("no X-Consul-Index in {self:?}"))
    }

    /// Returns itself if the status is 200.
    ///
    /// # Errors
    /// Status and body otherwise.
    pub fn ok(self) -> Result<Self, String> {
        if self.status == 200 { Ok(self) } else { Err(format!("{}: {}", self.status, self.body)) }
    }
}

impl Api {
    /// An API at an address.
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr }
    }

    /// Returns the address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `GET` of a path with its query.
    ///
    /// # Errors
    /// When there is no complete answer.
    pub fn get(&self, path: &str) -> Result<Answer, String> {
        self.request("GET", path, &[], "")
    }

    /// `PUT` of a JSON body.
    ///
    /// # Errors
    /// When there is no complete answer.
    pub fn put(&self, path: &str, body: &Value) -> Result<Answer, String> {
        self.request("PUT", path, &[("content-type", "application/json")], &body.to_string())
    }

    /// Any request.
    ///
    /// # Errors
    /// When there is no complete answer.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Answer, String> {
        self.exchange(method, path, headers, body)
            .map_err(|error| format!("{method} http://{}{path}: {error}", self.addr))
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> std::io::Result<Answer> {
        let mut stream = TcpStream::connect_timeout(&self.addr, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("host: {}\r\n", self.addr));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
        stream.write_all(head.as_bytes())?;
        read_answer(&mut BufReader::new(stream))
    }
}

/// Reads one answer from a connection.
///
/// # Errors
/// When the connection ends early or what comes is not HTTP/1.1.
pub fn read_answer(reader: &mut impl BufRead) -> std::io::Result<Answer> {
    let status_line = read_line(reader)?;
    let status = status_line
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| std::io::Error::other(format!("not an HTTP answer: {status_line:?}")))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((line.as_str(), ""));
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let header = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, v)| v.as_str());
    let mut body = Vec::new();
    if header("transfer-encoding").is_some_and(|v| v.contains("chunked")) {
        read_chunks(reader, &mut body)?;
    } else if let Some(length) = header("content-length").and_then(|v| v.parse().ok()) {
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
    } else if status != 204 && status != 304 {
        reader.read_to_end(&mut body)?;
    }
    Ok(Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let line = read_line(reader)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16)
            .map_err(|_| std::io::Error::other(format!("not a chunk size: {line:?}")))?;
        let start = body.len();
        body.resize(start + size, 0);
        reader.read_exact(&mut body[start..])?;
        let mut end = [0; 2];
        if size > 0 {
            reader.read_exact(&mut end)?;
        } else {
            while !read_line(reader)?.is_empty() {}
            return Ok(());
        }
    }
}

fn read_line(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(std::io::Error::other("the connection ended before the answer"));
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
