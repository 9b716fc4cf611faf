//! The docker check: a command in a container, through the Docker daemon's socket.
//!
//! **Source**: Docker Engine API v1.40 and later, "Exec".

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use serde::Deserialize;
use serde_json::{Value, json};
use weft_runtime::http::{HttpClient, HttpResponse};

use super::tail::Tail;
use super::{Finding, within};

/// Bytes of the daemon's own answers.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Bytes of a command's output that are looked at: the rest is left unread.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Bytes of the head of each piece of output: stream, three zeros, length.
const PIECE_HEAD_BYTES: usize = 8;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    #[serde(default)]
    exit_code: Option<i64>,
    #[serde(default)]
    running: bool,
}

pub(super) async fn run(
    socket: &Path,
    (container, args): (&str, &[String]),
    (bytes_max, limit): (usize, Duration),
) -> Finding {
    let command = async {
        match exec(socket, (container, args), (bytes_max, limit)).await {
            Ok(finding) => finding,
            Err(reason) => Finding::critical(format!("docker exec in {container}: {reason}")),
        }
    };
    within(limit, Box::pin(command)).await
}

async fn exec(
    socket: &Path,
    (container, args): (&str, &[String]),
    (bytes_max, limit): (usize, Duration),
) -> Result<Finding, String> {
    let daemon = HttpClient::new(limit, ANSWER_BYTES_MAX).over_unix(socket);
    let wanted = json!({ "AttachStdout": true, "AttachStderr": true, "Tty": false, "Cmd": args });
    let path = format!("/containers/{container}/exec");
    let created = call(&daemon, Method::POST, &path, Some(&wanted)).await?;
    let Created { id } = created.json().map_err(|error| error.to_string())?;
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("the daemon's answer has no id".to_owned());
    }
    let streaming = HttpClient::new(limit, OUTPUT_BYTES_MAX).over_unix(socket).cutting_bodies();
    let start = json!({ "Detach": false, "Tty": false });
    let output = call(&streaming, Method::POST, &format!("/exec/{id}/start"), Some(&start)).await?;
    let inspected = call(&daemon, Method::GET, &format!("/exec/{id}/json"), None).await?;
    let Inspected { exit_code, running } = inspected.json().map_err(|error| error.to_string())?;
    if running {
        return Err("it writes more than is read and was left running".to_owned());
    }
    Ok(Finding::of_exit(exit_code, text(&output.body, bytes_max)))
}

async fn call(
    daemon: &HttpClient,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<HttpResponse, String> {
    let mut headers = HeaderMap::new();
    let body = body.map(|body| {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Bytes::from(body.to_string())
    });
    let url = format!("http://docker{path}");
    let answer = daemon.request(method, &url, headers, body.unwrap_or_default()).await;
    let answer = answer.map_err(|error| error.to_string())?;
    match answer.status.is_success() {
        true => Ok(answer),
        false => Err(format!("the daemon answers {}: {}", answer.status, answer.text().trim())),
    }
}

/// Takes the output out of the pieces in which both of its streams come.
fn text(mut body: &[u8], bytes_max: usize) -> String {
    let mut tail = Tail::new(bytes_max);
    while let Some((head, rest)) = body.split_at_checked(PIECE_HEAD_BYTES) {
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let (piece, after) = rest.split_at(length.min(rest.len()));
        tail.push(piece);
        body = after;
    }
    tail.into_text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_taken_out_of_its_pieces_however_they_are_cut() {
        let mut body = vec![1, 0, 0, 0, 0, 0, 0, 3];
        body.extend_from_slice(b"out");
        body.extend_from_slice(&[2, 0, 0, 0, 0, 0, 0, 9]);
        body.extend_from_slice(b"err");
        assert_eq!(text(&body, 100), "outerr");
        assert_eq!(text(&body[..9], 100), "o");
        assert_eq!(text(&[1, 0, 0, 0, 255, 255, 255, 255], 100), "");
        assert_eq!(text(b"short", 100), "");
    }
}
