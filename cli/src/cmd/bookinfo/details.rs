//! `details`: facts of the book.

use http::StatusCode;
use serde_json::json;

use super::answer::{Answer, Ask};

/// Answers `GET /details/<id>`.
pub(super) fn answer(ask: &Ask<'_>, instance: &str) -> Answer {
    let Some(id) = ask.segment_after("/details/") else { return Answer::not_found() };
    let Ok(id) = id.parse::<u32>() else {
        return Answer::fault(StatusCode::BAD_REQUEST, "a product id is a number");
    };
    Answer::json(
        StatusCode::OK,
        &json!({
            "id": id,
            "author": "William Shakespeare",
            "year": 1594,
            "type": "paperback",
            "pages": 112,
            "publisher": "First Folio House",
            "language": "English",
            "instance": instance,
        }),
    )
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;

    #[test]
    fn a_number_is_described_and_anything_else_refused() {
        for (path, status) in [("/details/0", 200), ("/details/x", 400), ("/other", 404)] {
            let ask = Ask { method: &Method::GET, path, query: "", headers: &HeaderMap::new() };
            assert_eq!(answer(&ask, "details-1").status.as_u16(), status, "{path}");
        }
    }
}
