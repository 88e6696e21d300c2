//! Buckets of customers, in which rows are counted to estimate the rows of one customer.

use crate::domain::id::CustomerKey;

/// With 128 buckets the estimate has a standard error of an eighth.
pub(crate) const CUSTOMER_BUCKETS: usize = 128;

/// Bucket of a customer in the count of rows by customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CustomerBucket(u8);

impl CustomerBucket {
    /// By the 64-bit FNV-1a hash of the id: short ids, and no need for secrecy.
    pub fn of(customer: &CustomerKey) -> Self {
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0100_0000_01b3;
        let hash = customer
            .as_str()
            .bytes()
            .fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
        // The low bits of FNV-1a are weaker than those folded from both halves.
        let folded = (hash >> 32) ^ hash;
        Self((folded % CUSTOMER_BUCKETS as u64) as u8)
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}
