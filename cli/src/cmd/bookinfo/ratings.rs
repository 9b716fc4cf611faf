//! `ratings`: how many stars each reviewer gave.

use http::StatusCode;
use serde_json::json;

use super::answer::{Answer, Ask};

/// Answers `GET /ratings/<id>`.
pub(super) fn answer(ask: &Ask<'_>, instance: &str) -> Answer {
    let Some(id) = ask.segment_after("/ratings/") else { return Answer::not_found() };
    let Ok(id) = id.parse::<u32>() else {
        return Answer::fault(StatusCode::BAD_REQUEST, "a product id is a number");
    };
    Answer::json(
        StatusCode::OK,
        &json!({ "id": id, "ratings": { "Reviewer1": 5, "Reviewer2": 4 }, "instance": instance }),
    )
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;

    #[test]
    fn each_reviewer_has_stars() {
        let ask =
            Ask { method: &Method::GET, path: "/ratings/0", query: "", headers: &HeaderMap::new() };
        let answer = answer(&ask, "ratings-1");
        let body: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(body["ratings"]["Reviewer1"], 5);
    }
}
