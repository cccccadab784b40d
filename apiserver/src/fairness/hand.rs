//! Shuffle sharding: which queues a flow may use. Of a deck of queues every flow is dealt a hand by its hash, so that two flows seldom
//! have all queues in common.
//!
//! Never looks at queues. Source: KEP-1040, "Queue assignment"; the hash and the dealing are upstream's, so that dumps compare.

use sha2::{Digest as _, Sha256};

/// Bits of a hash that may be dealt from.
const BITS: u32 = 60;
/// The largest hand: fifteen cards of any deck that takes no more than `BITS`.
const LARGEST: usize = 15;

/// The flow of a request: the schema that it matched, and what tells its flows apart.
pub(crate) fn flow(schema: &str, distinguisher: &str) -> u64 {
    let mut hash = Sha256::new();
    hash.update(schema);
    hash.update([0]);
    hash.update(distinguisher);
    let bytes: [u8; 32] = hash.finalize().into();
    bytes.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

/// Deals hands of a size from a deck of a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dealer {
    deck: u32,
    hand: usize,
}

/// The cards of one flow.
pub(crate) struct Hand {
    cards: [u32; LARGEST],
    size: usize,
}

impl Hand {
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, u32> {
        self.cards.get(..self.size).unwrap_or_default().iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.size
    }
}

impl Dealer {
    /// `None` where a hash has too few bits for it, or the hand is not within the deck.
    pub(crate) fn new(deck: u32, hand: u32) -> Option<Dealer> {
        let cards = usize::try_from(hand).ok().filter(|hand| (1..=LARGEST).contains(hand))?;
        let fits = hand <= deck && deck <= 1 << 26 && u128::from(deck).checked_pow(hand)? <= 1 << BITS;
        fits.then_some(Dealer { deck, hand: cards })
    }

    /// Queues in all.
    pub(crate) fn deck(&self) -> u32 {
        self.deck
    }

    /// Queues of a flow.
    pub(crate) fn hand(&self) -> u32 {
        self.hand as u32
    }

    /// The hash is read as a number in a system with the bases `deck`, `deck - 1`, ...: each digit says which of the cards that are left is dealt.
    pub(crate) fn deal(&self, hash: u64) -> Hand {
        let (mut rest, mut hand) = (hash, Hand { cards: [0; LARGEST], size: self.hand });
        // Cards that are gone, in order.
        let mut gone = [u32::MAX; LARGEST];
        for (dealt, place) in hand.cards.iter_mut().take(self.hand).enumerate() {
            let left = u64::from(self.deck) - dealt as u64;
            let mut card = (rest % left) as u32;
            rest /= left;
            for earlier in gone.iter().take(dealt) {
                if card >= *earlier {
                    card += 1;
                }
            }
            let at = gone.iter().take(dealt).filter(|earlier| **earlier < card).count();
            if let Some(tail) = gone.get_mut(at..=dealt) {
                tail.rotate_right(1);
                if let Some(first) = tail.first_mut() {
                    *first = card;
                }
            }
            *place = card;
        }
        hand
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng as _, SeedableRng as _};
    use std::collections::{HashMap, HashSet};

    #[test]
    fn decks_that_a_hash_can_deal() {
        for (deck, hand, sound) in [
            (64, 6, true),
            (128, 6, true),
            (16, 4, true),
            (1, 1, true),
            (0, 1, false),
            (4, 5, false),
            (4, 0, false),
            (64, 11, false),
            (1 << 27, 1, false),
        ] {
            assert_eq!(Dealer::new(deck, hand).is_some(), sound, "{deck} {hand}");
        }
    }

    /// The first digit is the first card; the second counts the cards that are left.
    #[test]
    fn digits_are_cards() {
        let dealt =
            |deck, size, hash| Dealer::new(deck, size).unwrap().deal(hash).iter().copied().collect::<Vec<u32>>();
        assert_eq!(dealt(8, 3, 0), [0, 1, 2]);
        assert_eq!(dealt(8, 3, 3), [3, 0, 1]);
        assert_eq!(dealt(8, 3, 3 + 8 * 3), [3, 4, 0]);
        assert_eq!(dealt(8, 3, 7 + 8 * (6 + 7 * 5)), [7, 6, 5]);
        assert_eq!(dealt(8, 3, 2 + 8 * (2 + 7 * 2)), [2, 3, 4]);
    }

    #[test]
    fn hands_are_distinct_cards_and_all_alike_likely() {
        let seed = 7;
        println!("seed {seed}");
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        let dealer = Dealer::new(6, 3).unwrap();
        let mut hands: HashMap<Vec<u32>, u32> = HashMap::new();
        for _ in 0..120_000 {
            let hand: Vec<u32> = dealer.deal(random.random()).iter().copied().collect();
            assert_eq!(hand.iter().collect::<HashSet<_>>().len(), 3);
            assert!(hand.iter().all(|card| *card < 6));
            *hands.entry(hand).or_default() += 1;
        }
        // 6 * 5 * 4 hands, 1000 each.
        assert_eq!(hands.len(), 120);
        assert!(hands.values().all(|count| (800..1200).contains(count)), "{hands:?}");
    }

    #[test]
    fn flows_hash_as_upstream_hashes_them() {
        // sha256("a\0b"), the first eight bytes from the lowest up.
        assert_eq!(flow("a", "b"), 0xd3b1_bc1b_ae71_b259);
    }
}
