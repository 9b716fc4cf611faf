//! The way of bytes from a caller, and of a service's answer, for fuzzing.

use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::http::{Scripted, Session};
use crate::listen::Live;
use crate::transport::Buffer;

/// What came out at both ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// What the next hop got.
    pub asked: Vec<u8>,
    /// What the caller got.
    pub answered: Vec<u8>,
}

/// Serves a caller of HTTP/1 who says this and then no more, before a next hop that says that.
/// To be called where time is paused, and on a thread of its own runtime.
pub async fn http1(caller: &[u8], next_hop: &[u8]) -> Carried {
    let (mut near, client) = tokio::io::duplex(1 << 10);
    let (mut far, wire) = tokio::io::duplex(1 << 10);
    let session = Session::new(
        client,
        Scripted::new(vec![wire]),
        Rc::new(Live::default()),
        Buffer::default(),
    );
    let (mut answered, mut asked) = (Vec::new(), Vec::new());
    let serving = async {
        session.run().await;
    };
    let calling = async {
        let (mut read, mut write) = tokio::io::split(&mut near);
        let speaking = async {
            // Who is refused in the midst of it need not be heard out.
            let _ = write.write_all(caller).await;
            let _ = write.shutdown().await;
        };
        tokio::join!(speaking, read.read_to_end(&mut answered)).1
    };
    let answering = async {
        let (mut read, mut write) = tokio::io::split(&mut far);
        let first = read.read_buf(&mut asked).await;
        let speaking = async {
            let _ = write.write_all(next_hop).await;
            let _ = write.shutdown().await;
        };
        let _ = tokio::join!(speaking, read.read_to_end(&mut asked));
        first
    };
    let _ = tokio::join!(serving, calling, answering);
    Carried { asked, answered }
}
