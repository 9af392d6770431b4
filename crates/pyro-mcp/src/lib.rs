//! The MCP door: the operations of the catalogue as tools for models, and pyro's entry in the chat
//! hosts that start it.
//!
//! Tools are made from the catalogue and `table.rs`, which says in a model's words what an operation
//! is for and who is offered it; they are called through [`pyro_workspace::Pyro::perform`]. Nothing
//! here knows how a workspace works, and nothing of the protocol is implemented here: that is `rmcp`.

mod access;
mod answer;
mod arguments;
mod hangup;
pub mod hosts;
mod http;
mod instructions;
mod journal;
mod kept;
mod profile;
mod progress;
mod project;
mod prompts;
mod resources;
mod roots;
mod schema;
mod server;
mod stdio;
mod table;
mod tools;

pub use access::Token;
pub use http::{HttpOptions, Listening, listen};
pub use profile::{Mode, Offer, Profile};
pub use server::{Options, Server};
pub use stdio::serve_stdio;
pub use table::decides;
pub use tools::estimated_tokens;
