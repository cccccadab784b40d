//! Choices out of arbitrary bytes: what has run out of bytes always chooses the first.
//!
//! Knows nothing of what is chosen.

/// A supply of choices.
pub(super) struct Dice<'a>(pub(super) &'a [u8]);

impl Dice<'_> {
    /// Below `sides`.
    pub(super) fn roll(&mut self, sides: u8) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first % sides.max(1)
    }

    /// True once in `sides` times, never when the bytes have run out.
    pub(super) fn one_in(&mut self, sides: u8) -> bool {
        self.roll(sides) == sides.saturating_sub(1)
    }

    /// Elements of `all`, each at most once, in any order.
    pub(super) fn some<T: Copy>(&mut self, all: &[T]) -> Vec<T> {
        let mut left = all.to_vec();
        let mut out = Vec::new();
        for _ in 0..self.roll(u8::try_from(all.len()).unwrap_or(u8::MAX).saturating_add(1)) {
            let at = usize::from(self.roll(u8::try_from(left.len()).unwrap_or(u8::MAX)));
            out.push(left.remove(at));
        }
        out
    }
}
