//! Any frame, read as the broker reads it: the header, the guard, the decoder. What the guard accepts and the decoder
//! reads has to be written, and read again as the same bytes.
#![no_main]

// The sources of the broker's protocol module and the table of its messages name each other by the crate's name.
extern crate self as klamm;

#[path = "../../../src/protocol/mod.rs"]
pub mod protocol;
#[path = "../../src/served.rs"]
pub mod served;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use protocol::header::RequestHeader;
use served::SERVED;

fuzz_target!(|frame: &[u8]| {
    let mut body = Bytes::copy_from_slice(frame);
    let Ok(header) = RequestHeader::decode(&mut body) else { return };
    let Some(api) = SERVED.iter().find(|api| api.key == header.api_key) else { return };
    let version = header.api_version;
    if api.versions.contains(&version) && api.read(version, &body).is_ok() {
        let once = (api.recode_request)(&mut body, version).map(bytes::BytesMut::freeze);
        let Ok(once) = once else { return };
        let twice = (api.recode_request)(&mut once.clone(), version);
        assert_eq!(twice.map(bytes::BytesMut::freeze), Ok(once));
    }
});
