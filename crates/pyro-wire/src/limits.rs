//! The limits both sides set. Together they bound what one side can make the other hold.

/// What one call may send before its reader takes some: a stalled reader costs this much.
pub const STREAM_WINDOW: u32 = 256 * 1024;

/// Calls open at once on one connection.
pub const MAX_CALLS: u32 = 256;

/// Room for every call to fill its own window. HTTP/2 also counts all calls against one window of
/// the connection (RFC 9113, section 5.2); were it smaller than this product, some stalled readers
/// could hold up everybody else.
pub const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_CALLS;

/// Largest message.
pub const MAX_MESSAGE_SIZE: usize = 1024 * 1024;

/// Bytes of command output, stdin or file content to put into one message.
pub const CHUNK: usize = 32 * 1024;

/// Largest HTTP/2 frame. Small, so that a bulk transfer lets a reply of another call pass soon.
pub(crate) const MAX_FRAME: u32 = 16 * 1024;

/// Bytes of headers of one call: a method name and a status message need far less.
pub(crate) const MAX_HEADERS: u32 = 16 * 1024;
