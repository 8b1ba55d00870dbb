//! Requests over HTTP, as far as `capabilities.http` of the manifest grants them.

use std::fmt;

use crate::bindings::loom::net::http;
use crate::error::{Error, Result};

/// A request. Redirects are not followed.
pub struct Request(http::Request);

impl Request {
    /// A request for the resource at `url`.
    pub fn get(url: &str) -> Self {
        Self::new("GET", url)
    }

    /// A request; `method` in capitals.
    pub fn new(method: &str, url: &str) -> Self {
        Self(http::Request::new(method, url))
    }

    /// Adds a header.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        self.0.header(name, value);
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(self, content: &[u8]) -> Self {
        self.0.body(content);
        self
    }

    /// Sends it and waits for the whole answer, at most 30 seconds.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`](crate::ErrorKind::Denied) where it is not granted,
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) where there is no answer. An answer with any status is no
    /// error.
    pub fn send(self) -> Result<Response> {
        let answer = self.0.send().map_err(Error::from_host)?;
        Ok(Response { status: answer.status(), body: answer.body() })
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").finish_non_exhaustive()
    }
}

/// An answer.
pub struct Response {
    /// Its status, from 100 to 599.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("status", &self.status).finish_non_exhaustive()
    }
}
