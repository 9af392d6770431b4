//! `pyro mcp`: with clients that others wrote, and with clients that misbehave.

mod cancel;
mod crowd;
mod hosts;
mod http;
mod malformed;
mod project;
mod sessions;
mod wire;
