//! What routing may ask of a request, whatever engine read it.

/// One request, as its origin will read it.
pub trait RequestView {
    /// Returns the method.
    fn method(&self) -> &str;
    /// Returns the path without query, as it will be forwarded.
    fn path(&self) -> &[u8];
    /// Returns the protocol that it came in, `HTTP/1.1` and the like.
    fn protocol(&self) -> &'static str {
        "HTTP/1.1"
    }
    /// Returns what follows the first `?`, if there is one.
    fn query(&self) -> Option<&[u8]>;
    /// Whether there is a header whose name is another, but this one (given in lower case) to
    /// those who take all that is neither letter nor digit for `-`.
    fn has_disguised(&self, name: &str) -> bool;
    /// Shows each value of the header with this name (given in lower case), in order.
    fn each_header(&self, name: &str, visit: &mut dyn FnMut(&[u8]));
}
