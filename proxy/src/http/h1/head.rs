//! Finds where a head ends, whatever pieces it arrives in.

use weft_core::limits;

/// States why a message is refused. The text is for the one who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("a line ends without CR before LF")]
    BareLineFeed,
    #[error("Connection lists more options than any sender needs")]
    ConnectionOptions,
    #[error("Content-Length is not a plain number, or is given twice")]
    ContentLength,
    #[error("Content-Length and Transfer-Encoding are both given")]
    ContentLengthAndTransferEncoding,
    #[error("a header's name reads as Content-Length or Transfer-Encoding to some")]
    Disguised,
    #[error("the Expect header asks for something else than 100-continue")]
    Expectation,
    #[error("Host is missing, given twice or not a host")]
    Host,
    #[error("the head is not HTTP/1")]
    Syntax,
    #[error("the request target has a form that does not fit the method, or forbidden characters")]
    Target,
    #[error("the head has more than {} header lines", limits::HTTP_HEADERS_MAX)]
    TooManyHeaders,
    #[error("the head has more than {} bytes", limits::HTTP_HEAD_BYTES_MAX)]
    TooLong,
    #[error("Transfer-Encoding is given twice, with HTTP/1.0, or is not exactly \"chunked\"")]
    TransferEncoding,
    #[error("the HTTP version is not 1.0 or 1.1")]
    Version,
}

/// Remembers how far a head was looked through, so that no byte is looked at twice.
///
/// Each line must end with CR LF; a head ends with an empty line. Empty lines before the first
/// line are skipped (Spec: RFC 9112 §2.2).
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct HeadScan {
    scanned: usize,
    line_start: usize,
    started: bool,
}

impl HeadScan {
    /// Looks at the bytes that are new since the last call; `bytes` always begins at the same
    /// place. Returns the length of the head once it is complete.
    pub(crate) fn find_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, HeadError> {
        while let Some(offset) = memchr::memchr(b'\n', &bytes[self.scanned..]) {
            let at = self.scanned + offset;
            if at == self.line_start || bytes[at - 1] != b'\r' {
                return Err(HeadError::BareLineFeed);
            }
            let is_empty = at - 1 == self.line_start;
            self.scanned = at + 1;
            self.line_start = at + 1;
            if self.scanned > limits::HTTP_HEAD_BYTES_MAX {
                return Err(HeadError::TooLong);
            }
            if is_empty && self.started {
                return Ok(Some(self.scanned));
            }
            self.started |= !is_empty;
        }
        self.scanned = bytes.len();
        if self.scanned > limits::HTTP_HEAD_BYTES_MAX {
            return Err(HeadError::TooLong);
        }
        Ok(None)
    }
}
