//! The messages of the gRPC face, with its server and its client, as `build.rs` makes them of
//! `proto/crosslatch/v1/exchange.proto`. The comments there are the documentation.

#[expect(
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::missing_errors_doc,
    clippy::too_many_lines,
    unused_qualifications,
    reason = "generated; what there is to say of it is said in the proto file"
)]
mod generated {
    tonic::include_proto!("crosslatch.v1");
}

pub use generated::*;

pub mod rich;

/// The proto files as the reflection service shows them: an encoded `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/exchange.bin"));

use crate::types::{Amount as Units, RequestId};

impl Amount {
    /// An amount as a message.
    pub const fn of(amount: Units) -> Self {
        let units = amount.get();
        Self { low: units as u64, high: (units >> 64) as u64 }
    }

    /// The amount itself.
    pub const fn units(&self) -> Units {
        Units::new((self.high as u128) << 64 | self.low as u128)
    }
}

impl From<Units> for Amount {
    fn from(amount: Units) -> Self {
        Self::of(amount)
    }
}

impl SignedAmount {
    /// A number of smallest units that may be below zero, as a message.
    pub const fn of(units: i128) -> Self {
        let Amount { low, high } = Amount::of(Units::new(units.unsigned_abs()));
        Self { negative: units < 0, low, high }
    }
}

/// An id as 16 bytes, most significant first, as in a UUID's text.
pub fn id_bytes(id: RequestId) -> prost::bytes::Bytes {
    prost::bytes::Bytes::copy_from_slice(&id.get().to_be_bytes())
}

/// The id in 16 bytes.
///
/// # Errors
/// There are not 16; to be read after the field's name.
pub fn id_of(bytes: &[u8]) -> Result<RequestId, String> {
    match bytes.try_into() {
        Ok(bits) => Ok(RequestId::new(u128::from_be_bytes(bits))),
        Err(_) if bytes.is_empty() => {
            Err("is missing; give the 16 bytes of a UUID, best of version 7".into())
        }
        Err(_) => Err(format!("has {} bytes; an id has the 16 of a UUID", bytes.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_keep_all_their_bits() {
        for units in [0, 1, u128::from(u64::MAX), 1 << 64, u128::MAX - 5, u128::MAX] {
            assert_eq!(Amount::of(Units::new(units)).units(), Units::new(units));
        }
        let SignedAmount { negative, low, high } = SignedAmount::of(-(1 << 64) - 3);
        assert_eq!((negative, low, high), (true, 3, 1));
        assert_eq!(SignedAmount::of(i128::MIN).high, 1 << 63);
    }

    #[test]
    fn ids_are_the_bytes_of_their_text() {
        let id: RequestId = "0198f000-0000-7000-8000-000000000005".parse().expect("an id");
        let bytes = id_bytes(id);
        assert_eq!((bytes[0], bytes[1], bytes[15]), (0x01, 0x98, 5));
        assert_eq!(id_of(&bytes), Ok(id));
        assert!(id_of(&bytes[1..]).expect_err("15 bytes").contains("has 15 bytes"));
        assert!(id_of(&[]).expect_err("none").contains("missing"));
    }
}
