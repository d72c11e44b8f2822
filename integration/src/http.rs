//! Asking programs over HTTP, on this machine.

use std::io;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::http::Request;

/// A worker of Connect answers some requests only after a rebalance.
const PATIENCE: Duration = Duration::from_secs(120);

/// A program's answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// What came with it.
    pub body: String,
}

impl Answer {
    /// The body as JSON, or null where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// Checks that the request was granted.
    ///
    /// # Panics
    /// When it was not.
    #[must_use]
    pub fn success(self) -> Self {
        assert!((200..300).contains(&self.status), "{self:?}");
        self
    }
}

/// Asks with this method; a body is JSON.
///
/// # Errors
/// When nobody answers. An answer that refuses is none.
pub fn call(method: &str, url: &str, body: Option<&Value>) -> io::Result<Answer> {
    let configuration = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .allow_non_standard_methods(true)
        .build();
    let request = Request::builder().method(method).uri(url).header("Content-Type", "application/json");
    let request = request.body(body.map_or_else(String::new, Value::to_string)).map_err(io::Error::other)?;
    let mut response = Agent::new_with_config(configuration).run(request).map_err(io::Error::other)?;
    let status = response.status().as_u16();
    let body = response.body_mut().read_to_string().map_err(io::Error::other)?;
    Ok(Answer { status, body })
}

/// Asks for what is there; none where nobody answers or it is not granted.
#[must_use]
pub fn get(url: &str) -> Option<Answer> {
    call("GET", url, None).ok().filter(|answer| answer.status == 200)
}
