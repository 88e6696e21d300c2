//! Tensor element types of the protocol that features can be decoded from.

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TensorDatatype {
    Number(NumericType),
    /// A text in UTF-8.
    Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumericType {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp32,
    Fp64,
}

/// The names in the protocol. FP16 is not supported: its JSON representation is undefined, and
/// features need no 16-bit floats.
const NUMBERS: [(&str, NumericType); 11] = [
    ("BOOL", NumericType::Bool),
    ("UINT8", NumericType::Uint8),
    ("UINT16", NumericType::Uint16),
    ("UINT32", NumericType::Uint32),
    ("UINT64", NumericType::Uint64),
    ("INT8", NumericType::Int8),
    ("INT16", NumericType::Int16),
    ("INT32", NumericType::Int32),
    ("INT64", NumericType::Int64),
    ("FP32", NumericType::Fp32),
    ("FP64", NumericType::Fp64),
];

impl TensorDatatype {
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text == "BYTES" {
            return Some(Self::Bytes);
        }
        NUMBERS.iter().find(|(name, _)| *name == text).map(|(_, number)| Self::Number(*number))
    }
}

impl NumericType {
    /// Bytes per element in binary data.
    pub(super) const fn width(self) -> usize {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => 1,
            Self::Uint16 | Self::Int16 => 2,
            Self::Uint32 | Self::Int32 | Self::Fp32 => 4,
            Self::Uint64 | Self::Int64 | Self::Fp64 => 8,
        }
    }

    /// Decodes one element of binary data: little-endian, [`Self::width`] bytes.
    pub(super) fn decode(self, element: &[u8]) -> f64 {
        let mut bytes = [0; 8];
        bytes[..element.len()].copy_from_slice(element);
        let bits = u64::from_le_bytes(bytes);
        match self {
            Self::Bool => f64::from(u8::from(bits != 0)),
            Self::Uint8 | Self::Uint16 | Self::Uint32 | Self::Uint64 => bits as f64,
            Self::Int8 => f64::from(bits as i8),
            Self::Int16 => f64::from(bits as i16),
            Self::Int32 => f64::from(bits as i32),
            Self::Int64 => bits.cast_signed() as f64,
            Self::Fp32 => f64::from(f32::from_bits(bits as u32)),
            Self::Fp64 => f64::from_bits(bits),
        }
    }

    /// Converts a JSON number to this type, so that JSON and binary data have the same meaning;
    /// `None` if it is out of range.
    pub(super) fn convert(self, number: f64) -> Option<f64> {
        match self {
            Self::Bool => None,
            Self::Uint8 => integer_within(number, 0.0, u8::MAX.into()),
            Self::Uint16 => integer_within(number, 0.0, u16::MAX.into()),
            Self::Uint32 => integer_within(number, 0.0, u32::MAX.into()),
            Self::Uint64 => integer_within(number, 0.0, u64::MAX as f64),
            Self::Int8 => integer_within(number, i8::MIN.into(), i8::MAX.into()),
            Self::Int16 => integer_within(number, i16::MIN.into(), i16::MAX.into()),
            Self::Int32 => integer_within(number, i32::MIN.into(), i32::MAX.into()),
            Self::Int64 => integer_within(number, i64::MIN as f64, i64::MAX as f64),
            Self::Fp32 => Some(f64::from(number as f32)).filter(|converted| converted.is_finite()),
            Self::Fp64 => Some(number).filter(|number| number.is_finite()),
        }
    }
}

fn integer_within(number: f64, least: f64, most: f64) -> Option<f64> {
    (number.fract() == 0.0 && (least..=most).contains(&number)).then_some(number)
}
