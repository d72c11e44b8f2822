//! The APIs: one file and one line in the table for each.
//!
//! `apis!` declares what is served. From it come the dispatch of requests, the answer to ApiVersions, the table in the
//! README, and the tests that send every version of everything.

mod api_versions;
mod context;
mod request;

use bytes::Bytes;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Message};

pub(crate) use context::{BrokerHandles, Connection, Context, Disconnect, Listener};
pub(crate) use request::{Encoded, Request, RequestHeader, Running};

/// One API in the versions that are advertised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiEntry {
    /// The number by which requests name it.
    pub key: i16,
    /// Kafka's name of it.
    pub name: &'static str,
    /// The oldest version that is advertised.
    pub min: i16,
    /// The newest version.
    pub max: i16,
    /// The oldest version that is served. Produce alone advertises more than it serves.
    pub(crate) served_from: i16,
    /// The first version in the flexible form (KIP-482), or `i16::MAX`.
    pub(crate) flexible_from: i16,
    /// Whether a request may start while earlier ones of its connection still run.
    pub(crate) pipelined: bool,
}

impl ApiEntry {
    /// Whether requests of this version are answered.
    pub fn serves(&self, version: i16) -> bool {
        self.served_from <= version && version <= self.max
    }

    /// The version of the header in front of a request of this version.
    pub fn request_header_version(&self, version: i16) -> i16 {
        if version >= self.flexible_from { 2 } else { 1 }
    }

    /// The version of the header in front of a response of this version. ApiVersions stays at 0 whatever its version,
    /// because its client does not know yet what we speak.
    pub fn response_header_version(&self, version: i16) -> i16 {
        i16::from(version >= self.flexible_from && self.key != api_versions::KEY)
    }
}

/// Every API, by key.
pub fn advertised() -> &'static [ApiEntry] {
    APIS
}

/// The APIs as a table in Markdown, for the README.
pub fn table_markdown() -> String {
    let mut table = String::from("| key | API | versions |\n|---:|---|---|\n");
    for api in APIS {
        table += &format!("| {} | {} | {}–{} |\n", api.key, api.name, api.min, api.max);
    }
    table
}

fn decode<R: Decodable>(header: &RequestHeader, name: &str, mut body: Bytes) -> Result<R, Disconnect> {
    R::decode(&mut body, header.version)
        .map_err(|error| Disconnect::Malformed(format!("{name} version {}: {error}", header.version)))
}

/// Declares the APIs, one line each:
///
/// `key Name versions, flexible from (i16::MAX for never), mode handler(Request);`
///
/// - `serial`: `async fn handle(&Context, Request, version) -> Result<Response, Disconnect>` starts when everything
///   before it on the connection has been answered;
/// - `pipelined`: `fn begin(Context, Request, RequestHeader) -> Result<Running, Disconnect>` runs in the order of the
///   requests, and the future that it returns later gives the response.
macro_rules! apis {
    ($( $key:literal $name:ident $min:literal..=$max:literal $(served from $served:literal)?, flexible $flexible:expr,
        $mode:ident $module:ident($request:ty); )*) => {
        const APIS: &[ApiEntry] = &[$(ApiEntry {
            key: $key,
            name: stringify!($name),
            min: $min,
            max: $max,
            served_from: apis!(@served $min $($served)?),
            flexible_from: $flexible,
            pipelined: apis!(@pipelined $mode),
        }),*];

        $(const _: () = assert!(
            <$request as Message>::VERSIONS.min <= apis!(@served $min $($served)?)
                && $max <= <$request as Message>::VERSIONS.max,
            concat!("the codec does not have every version of ", stringify!($name))
        );)*

        fn entry(key: i16) -> Option<&'static ApiEntry> {
            match key {
                $($key => {
                    const API: ApiEntry = apis!(@find $key);
                    Some(&API)
                })*
                _ => None,
            }
        }

        fn dispatch(context: Context, header: RequestHeader, body: Bytes) -> Result<Running, Disconnect> {
            match header.key {
                $($key => apis!(@$mode $module $request, $name, $flexible, context, header, body),)*
                key => Err(Disconnect::Malformed(format!("unknown api key {key}"))),
            }
        }
    };
    (@served $min:literal) => { $min };
    (@served $min:literal $served:literal) => { $served };
    (@pipelined serial) => { false };
    (@pipelined pipelined) => { true };
    (@find $key:literal) => {{
        let mut index = 0;
        while APIS[index].key != $key {
            index += 1;
        }
        APIS[index]
    }};
    (@serial $module:ident $request:ty, $name:ident, $flexible:expr, $context:ident, $header:ident, $body:ident) => {{
        let request: $request = decode(&$header, stringify!($name), $body)?;
        Ok(Box::pin(async move {
            let response = $module::handle(&$context, request, $header.version).await?;
            let flexible = $header.version >= $flexible && $header.key != api_versions::KEY;
            Encoded::response(&$header, flexible, &response).map(Some)
        }))
    }};
    (@pipelined $module:ident $request:ty, $name:ident, $flexible:expr, $context:ident, $header:ident, $body:ident) => {{
        let request: $request = decode(&$header, stringify!($name), $body)?;
        $module::begin($context, request, $header)
    }};
}

apis! {
    18 ApiVersions 0..=4, flexible 3, serial api_versions(ApiVersionsRequest);
}
