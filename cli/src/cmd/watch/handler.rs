//! What gets each view: a program on its standard input, or an URL.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use weft_runtime::http::HttpClient;

/// How long an URL may take to answer (Consul: 10 s), and how much it may say.
const POST_LIMIT: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// The handler.
pub(super) enum Handler {
    Post { client: Box<HttpClient>, url: String },
    Program(Vec<String>),
}

impl Handler {
    pub(super) fn of(program: Vec<String>, url: Option<String>) -> Option<Self> {
        match url {
            Some(url) => {
                let client = Box::new(HttpClient::new(POST_LIMIT, ANSWER_BYTES_MAX));
                Some(Self::Post { client, url })
            }
            None => (!program.is_empty()).then_some(Self::Program(program)),
        }
    }

    /// Hands a view over. What becomes of it is told, and does not end the watch.
    pub(super) async fn hand_over(&self, view: &Value, index: u64) -> anyhow::Result<()> {
        let json = serde_json::to_vec(view).context("cannot write JSON")?;
        let outcome = match self {
            Self::Post { client, url } => post(client, url, json, index).await,
            Self::Program(program) => execute(program, &json, index).await,
        };
        if let Err(error) = outcome {
            eprintln!("{error:#}");
        }
        Ok(())
    }
}

async fn post(client: &HttpClient, url: &str, json: Vec<u8>, index: u64) -> anyhow::Result<()> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(HeaderName::from_static("x-consul-index"), index.into());
    let answer = client.request(Method::POST, url, headers, json.into()).await;
    let answer = answer.with_context(|| format!("{url} did not answer"))?;
    if !answer.status.is_success() {
        bail!("{url} answered {}", answer.status);
    }
    Ok(())
}

async fn execute(program: &[String], json: &[u8], index: u64) -> anyhow::Result<()> {
    let mut command = match program {
        [text] => {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", text]);
            shell
        }
        program => {
            let mut command = Command::new(program.first().map_or("", String::as_str));
            command.args(program.iter().skip(1));
            command
        }
    };
    command.env("CONSUL_INDEX", index.to_string()).stdin(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("the program cannot be started")?;
    if let Some(mut input) = child.stdin.take() {
        // One that does not read is no fault of the watch.
        let _ = input.write_all(json).await;
    }
    let status = child.wait().await.context("the program cannot be waited for")?;
    if !status.success() {
        bail!("the program ended with {status}");
    }
    Ok(())
}
