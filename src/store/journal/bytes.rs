//! Numbers and strings as bytes: the alphabet that blocks and rows are written in.
//!
//! * *raw*: a fixed number of bytes, little-endian.
//! * *varint*: LEB128, seven bits a byte, low bits first; up to 128 bits.
//! * *counted*: only the bytes that are not zero, little-endian; how many there are stands in four
//!   bits of a control byte nearby, where 15 means 16. Hot numbers are written so, because reading
//!   one takes a load and a mask instead of a branch per byte.
//! * *blob*: length as a varint, then the bytes.
//! * *text*: a blob of UTF-8.
//!
//! Each number has one form, the shortest: it is the only one that is read. Reading never panics
//! whatever the bytes are: what cannot be is a [`Flaw`].

/// What is wrong with bytes that should have been written by a [`Writer`].
pub(in crate::store) type Flaw = &'static str;

const CUT_SHORT: Flaw = "ends in the middle of a record";
const TOO_LARGE: Flaw = "holds a number that is too large for its field";
const NOT_SHORTEST: Flaw = "holds a number that is written in more bytes than it takes";

/// The low `8 * n` bits, by `n`; from 8 on all of them.
const MASKS: [u64; 16] = {
    let mut masks = [u64::MAX; 16];
    let mut bytes = 0;
    while bytes < 8 {
        masks[bytes] = (1 << (8 * bytes)) - 1;
        bytes += 1;
    }
    masks
};

/// The lowest number that takes so many bytes.
const FLOORS: [u64; 16] = {
    let mut floors = [0; 16];
    let mut bytes = 1;
    while bytes <= 8 {
        floors[bytes] = 1 << (8 * (bytes - 1));
        bytes += 1;
    }
    floors
};

/// The four bits that say how many bytes [`Writer::counted`] writes of a number.
#[inline]
pub(in crate::store) fn count(number: u128) -> u8 {
    if let Ok(number) = u64::try_from(number) {
        return count_word(number);
    }
    let bytes = 16 - number.leading_zeros() / 8;
    bytes.min(15) as u8
}

/// The same for 64 bits: at most 8.
#[inline]
pub(in crate::store) fn count_word(number: u64) -> u8 {
    (8 - number.leading_zeros() / 8) as u8
}

/// Bytes that a number of that count takes.
#[inline]
const fn width(count: u8) -> usize {
    if count == 15 { 16 } else { count as usize }
}

/// Appends to a buffer that is only ever grown, so that a reused one is not filled with zeros anew.
#[derive(Debug, Default)]
pub(in crate::store) struct Writer {
    /// Longer than what was written.
    bytes: Vec<u8>,
    at: usize,
}

impl Writer {
    /// Appends to `bytes`; [`Writer::into_bytes`] gives it back.
    pub(in crate::store) fn append_to(bytes: Vec<u8>) -> Self {
        let at = bytes.len();
        Self { bytes, at }
    }

    /// Writes over `bytes` from the start, using it as it is.
    pub(in crate::store) fn overwrite(bytes: Vec<u8>) -> Self {
        Self { bytes, at: 0 }
    }

    /// The buffer, cut to what was written.
    pub(in crate::store) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.at);
        self.bytes
    }

    /// The buffer as it is, for [`Writer::overwrite`].
    pub(in crate::store) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    /// Forgets what was written from there on.
    pub(in crate::store) fn rewind(&mut self, at: usize) {
        self.at = at;
    }

    /// Bytes written.
    #[inline]
    pub(in crate::store) fn len(&self) -> usize {
        self.at
    }

    /// What was written.
    pub(in crate::store) fn written(&self) -> &[u8] {
        &self.bytes[..self.at]
    }

    /// Overwrites what was written at `at`.
    pub(in crate::store) fn patch(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[..self.at][at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Makes sure that `more` bytes, and the slack that `counted` needs, fit.
    #[inline]
    pub(in crate::store) fn reserve(&mut self, more: usize) {
        let needed = self.at + more + 16;
        if needed > self.bytes.len() {
            self.grow(needed);
        }
    }

    #[cold]
    fn grow(&mut self, needed: usize) {
        self.bytes.resize(needed.next_power_of_two().max(1 << 10), 0);
    }

    /// Raw bytes. Room must be reserved.
    #[inline]
    pub(in crate::store) fn raw<const LEN: usize>(&mut self, bytes: [u8; LEN]) {
        self.bytes[self.at..self.at + LEN].copy_from_slice(&bytes);
        self.at += LEN;
    }

    /// One byte. Room must be reserved.
    #[inline]
    pub(in crate::store) fn byte(&mut self, byte: u8) {
        self.raw([byte]);
    }

    /// A number of that [`count`]. Room must be reserved.
    #[inline]
    pub(in crate::store) fn counted(&mut self, number: u128, count: u8) {
        if count <= 8 {
            self.counted_word(number as u64, count);
        } else {
            self.bytes[self.at..self.at + 16].copy_from_slice(&number.to_le_bytes());
            self.at += width(count);
        }
    }

    /// A number of that [`count_word`]. Room must be reserved.
    #[inline]
    pub(in crate::store) fn counted_word(&mut self, number: u64, count: u8) {
        self.bytes[self.at..self.at + 8].copy_from_slice(&number.to_le_bytes());
        self.at += usize::from(count);
    }

    /// The `length` lowest bytes of a word, at most 16. Room must be reserved.
    #[inline]
    pub(in crate::store) fn word(&mut self, word: u128, length: usize) {
        self.bytes[self.at..self.at + 16].copy_from_slice(&word.to_le_bytes());
        self.at += length;
    }

    /// A varint.
    #[inline]
    pub(in crate::store) fn varint(&mut self, number: impl Into<u128>) {
        self.reserve(19);
        let mut rest = number.into();
        if let Ok(word) = u64::try_from(rest) {
            return self.varint_word(word);
        }
        while rest >= 0x80 {
            self.byte(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.byte(rest as u8);
    }

    #[inline]
    fn varint_word(&mut self, number: u64) {
        let mut rest = number;
        while rest >= 0x80 {
            self.byte(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.byte(rest as u8);
    }

    /// Bytes as they are.
    pub(in crate::store) fn slice(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// A blob.
    pub(in crate::store) fn blob(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.slice(bytes);
    }

    /// A text.
    pub(in crate::store) fn text(&mut self, text: &str) {
        self.blob(text.as_bytes());
    }
}

/// Reads what a [`Writer`] wrote.
#[derive(Clone, Debug)]
pub(in crate::store) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from `at`.
    #[inline]
    pub(in crate::store) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Where the next byte is read.
    #[inline]
    pub(in crate::store) fn at(&self) -> usize {
        self.at
    }

    /// Whether everything was read.
    #[inline]
    pub(in crate::store) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Passes over bytes.
    #[inline]
    pub(in crate::store) fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// Raw bytes.
    #[inline]
    pub(in crate::store) fn raw<const LEN: usize>(&mut self) -> Result<[u8; LEN], Flaw> {
        let bytes = self.bytes.get(self.at..self.at + LEN).ok_or(CUT_SHORT)?;
        self.at += LEN;
        Ok(bytes.try_into().expect("the slice has the length of the array"))
    }

    /// One byte.
    #[inline]
    pub(in crate::store) fn byte(&mut self) -> Result<u8, Flaw> {
        let byte = *self.bytes.get(self.at).ok_or(CUT_SHORT)?;
        self.at += 1;
        Ok(byte)
    }

    /// A number of that [`count`].
    #[inline]
    pub(in crate::store) fn counted(&mut self, count: u8) -> Result<u128, Flaw> {
        if count <= 8 {
            return Ok(self.counted_word(count)?.into());
        }
        let low = u64::from_le_bytes(self.raw()?);
        let high = self.bytes_of((width(count) - 8) as u8)?;
        // Of a count of 15, which means 16, 15 bytes are enough.
        if high < FLOORS[usize::from((count - 8) & 15)] {
            return Err(NOT_SHORTEST);
        }
        Ok(u128::from(high) << 64 | u128::from(low))
    }

    /// A number of that [`count_word`]; a count above 8 is a flaw.
    #[inline]
    pub(in crate::store) fn counted_word(&mut self, count: u8) -> Result<u64, Flaw> {
        let number = self.bytes_of(count)?;
        if number < FLOORS[usize::from(count & 15)] {
            return Err(NOT_SHORTEST);
        }
        Ok(number)
    }

    /// So many bytes as a number; more than 8 are a flaw.
    #[inline]
    fn bytes_of(&mut self, count: u8) -> Result<u64, Flaw> {
        let Some(eight) = self.bytes.get(self.at..self.at + 8) else {
            return self.counted_at_end(count);
        };
        if count > 8 {
            return Err(TOO_LARGE);
        }
        self.at += usize::from(count);
        let word = u64::from_le_bytes(eight.try_into().expect("the slice has eight bytes"));
        Ok(word & MASKS[usize::from(count & 15)])
    }

    /// Where a load of eight bytes would reach beyond the end.
    #[cold]
    fn counted_at_end(&mut self, count: u8) -> Result<u64, Flaw> {
        if count > 8 {
            return Err(TOO_LARGE);
        }
        let bytes = usize::from(count);
        let slice = self.bytes.get(self.at..self.at + bytes).ok_or(CUT_SHORT)?;
        let mut number = [0; 8];
        number[..bytes].copy_from_slice(slice);
        self.at += bytes;
        Ok(u64::from_le_bytes(number))
    }

    /// A varint of up to 128 bits.
    #[inline]
    pub(in crate::store) fn varint(&mut self) -> Result<u128, Flaw> {
        let mut number: u64 = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                let shortest = byte != 0 || shift == 0;
                return if shortest { Ok(number.into()) } else { Err(NOT_SHORTEST) };
            }
        }
        self.varint_rest(number)
    }

    /// What follows the first nine bytes.
    #[cold]
    fn varint_rest(&mut self, low: u64) -> Result<u128, Flaw> {
        let mut number = u128::from(low);
        for shift in (63..=126).step_by(7) {
            let byte = self.byte()?;
            if shift == 126 && byte > 3 {
                return Err(TOO_LARGE);
            }
            number |= u128::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return if byte != 0 { Ok(number) } else { Err(NOT_SHORTEST) };
            }
        }
        Err(TOO_LARGE)
    }

    /// A varint that fits a narrower field.
    #[inline]
    pub(in crate::store) fn varint_as<T: TryFrom<u128>>(&mut self) -> Result<T, Flaw> {
        T::try_from(self.varint()?).map_err(|_| TOO_LARGE)
    }

    /// A blob of at most `bytes_max` bytes.
    pub(in crate::store) fn blob(&mut self, bytes_max: usize) -> Result<&'a [u8], Flaw> {
        let length: usize = self.varint_as()?;
        if length > bytes_max {
            return Err("holds a text that is too long for its field");
        }
        let bytes = self.bytes.get(self.at..self.at + length).ok_or(CUT_SHORT)?;
        self.at += length;
        Ok(bytes)
    }

    /// A text of at most `bytes_max` bytes.
    pub(in crate::store) fn text(&mut self, bytes_max: usize) -> Result<&'a str, Flaw> {
        let bytes = self.blob(bytes_max)?;
        std::str::from_utf8(bytes).map_err(|_| "holds a text that is not UTF-8")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Numbers of every length.
    fn number() -> impl Strategy<Value = u128> {
        (any::<u128>(), 0..=128_u32)
            .prop_map(|(number, bits)| number.checked_shr(bits).unwrap_or(0))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(numbers in prop::collection::vec(number(), 0..20), text in ".{0,40}") {
            let mut writer = Writer::append_to(vec![7]);
            for &number in &numbers {
                writer.varint(number);
                writer.reserve(17);
                writer.byte(count(number));
                writer.counted(number, count(number));
            }
            writer.text(&text);
            let bytes = writer.into_bytes();
            let mut reader = Reader::new(&bytes, 1);
            for &number in &numbers {
                prop_assert_eq!(reader.varint(), Ok(number));
                let count = reader.byte().unwrap();
                prop_assert_eq!(reader.counted(count), Ok(number));
            }
            prop_assert_eq!(reader.text(160), Ok(text.as_str()));
            prop_assert!(reader.is_at_end());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..24), count in 0..16_u8) {
            let _ = Reader::new(&bytes, 0).varint();
            let _ = Reader::new(&bytes, 0).counted(count);
            let _ = Reader::new(&bytes, 0).counted_word(count);
            let _ = Reader::new(&bytes, 3).raw::<9>();
            let _ = Reader::new(&bytes, 0).text(5);
            let _ = Reader::new(&bytes, 0).blob(5);
        }
    }

    #[test]
    fn a_number_above_128_bits_is_refused() {
        let mut bytes = vec![0xFF; 18];
        bytes.push(3);
        assert_eq!(Reader::new(&bytes, 0).varint(), Ok(u128::MAX));
        bytes[18] = 4;
        assert_eq!(Reader::new(&bytes, 0).varint(), Err(TOO_LARGE));
        assert_eq!(Reader::new(&bytes, 0).counted_word(9), Err(TOO_LARGE));
    }

    #[test]
    fn a_number_is_read_in_its_shortest_form_only() {
        for (bytes, read) in [
            (&[0x80, 0x00][..], Err(NOT_SHORTEST)),
            (&[0x81, 0x80, 0x00], Err(NOT_SHORTEST)),
            (&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], Err(NOT_SHORTEST)),
            (&[0x00], Ok(0)),
            (&[0x80, 0x01], Ok(128)),
        ] {
            assert_eq!(Reader::new(bytes, 0).varint(), read, "{bytes:?}");
        }
        for number in (0..128).map(|bits| 1_u128 << bits).chain([0, u128::MAX]) {
            let bytes = number.to_le_bytes();
            for other in 0..16 {
                let read = Reader::new(&bytes, 0).counted(other);
                let is_right = other == count(number);
                assert_eq!(read == Ok(number), is_right, "{number} in {other}: {read:?}");
            }
        }
    }
}
