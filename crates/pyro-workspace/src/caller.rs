//! Who asks for something, as the journal knows him: a name that a door gives itself.
//!
//! It is a note for whoever reads the journal, not an identity: who may reach a workspace at all is
//! decided by the mode of its socket.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use pyro_contract::journal::ClientName;

/// The header of a request to a supervisor that carries the name.
pub(crate) const HEADER: &str = "x-pyro-client";

/// The caller, if he has named himself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Caller(Option<ClientName>);

impl Caller {
    pub(crate) fn new(name: Option<ClientName>) -> Self {
        Self(name)
    }

    pub(crate) fn client(&self) -> Option<&ClientName> {
        self.0.as_ref()
    }

    /// What the header says; nothing, where nobody asked.
    pub(crate) fn name(&self) -> Option<&str> {
        self.0.as_ref().map(ClientName::as_str)
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let name = parts.headers.get(HEADER).and_then(|name| name.to_str().ok());
        Ok(Self(name.and_then(ClientName::new)))
    }
}
