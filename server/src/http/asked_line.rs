//! A request that is asked about: its method, path and headers, as query parameters.

use weft_core::traffic::RequestView;

use super::error::ApiError;
use super::request::Query;

/// A request that is asked about.
pub(super) struct Line<'a> {
    method: &'a str,
    /// Without query.
    pub(super) path: &'a str,
    query: Option<&'a str>,
    headers: Vec<(&'a str, &'a str)>,
}

impl RequestView for Line<'_> {
    fn method(&self) -> &str {
        self.method
    }

    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    fn query(&self) -> Option<&[u8]> {
        self.query.map(str::as_bytes)
    }

    fn has_disguised(&self, name: &str) -> bool {
        let disguised = |field: &str| {
            !field.eq_ignore_ascii_case(name) && field.replace('_', "-").eq_ignore_ascii_case(name)
        };
        self.headers.iter().any(|(field, _)| disguised(field))
    }

    fn each_header(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        let values = self.headers.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        values.for_each(|(_, value)| visit(value.as_bytes()));
    }
}

/// Reads what is said of the request; without a path there is none.
pub(super) fn line(query: &Query) -> Result<Option<Line<'_>>, ApiError> {
    let Some(path) = query.value("path").filter(|path| !path.is_empty()) else { return Ok(None) };
    let header = |text| {
        let pair: Option<(&str, &str)> = str::split_once(text, ':');
        let (name, value) = pair.ok_or_else(|| {
            ApiError::bad_request("Invalid header: write it as name:value".to_owned())
        })?;
        Ok((name.trim(), value.trim()))
    };
    let headers = query.values("header").map(header).collect::<Result<Vec<_>, ApiError>>()?;
    let method = query.value("method").filter(|method| !method.is_empty()).unwrap_or("GET");
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    Ok(Some(Line { method, path, query, headers }))
}
