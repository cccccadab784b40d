//! How the server's seats are divided: what each priority level has by its configuration, and what it has for now, when others lend.
//!
//! Pure. Source: KEP-1040, "Priority Level Concurrency Borrowing".

use super::demand::Expected;

/// What a level's configuration says of its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// `nominalConcurrencyShares`.
    pub(crate) shares: u32,
    /// `lendablePercent`.
    pub(crate) lendable: u32,
    /// `borrowingLimitPercent`; without it, everything that others lend.
    pub(crate) borrowing: Option<u32>,
    /// Takes what it wants.
    pub(crate) exempt: bool,
}

/// Seats of a level by its configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seats {
    /// Without lending and borrowing.
    pub(crate) nominal: u32,
    /// When all is lent.
    pub(crate) least: u32,
    /// When all is borrowed.
    pub(crate) most: u32,
}

fn percent(seats: u32, percent: u32) -> u32 {
    (f64::from(seats) * f64::from(percent) / 100.0).round() as u32
}

impl Part {
    /// Of so many seats, where all levels together have so many shares. Rounded up, so that the sum may be a little more than `total`.
    pub(crate) fn seats(&self, total: u32, shares: u64) -> Seats {
        let wanted = u64::from(total) * u64::from(self.shares);
        let nominal = u32::try_from(wanted.div_ceil(shares.max(1))).unwrap_or(u32::MAX);
        let borrowed = self.borrowing.map_or(total, |limit| percent(nominal, limit));
        Seats {
            nominal,
            least: nominal.saturating_sub(percent(nominal, self.lendable)),
            most: nominal.saturating_add(borrowed),
        }
    }
}

/// One level that wants seats.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) seats: Seats,
    pub(crate) exempt: bool,
    pub(crate) expected: Expected,
}

impl Wish {
    /// No less than this: what it needed lately of its own, and what it does not lend.
    fn floor(&self) -> u32 {
        let needed = if self.exempt { self.expected.most } else { self.expected.most.min(self.seats.nominal) };
        self.seats.least.max(needed)
    }

    /// What the level would have if there were enough for all.
    pub(crate) fn target(&self) -> f64 {
        f64::from(self.floor()).max(self.expected.smoothed)
    }
}

/// What the levels have for now, in their order, and by how much targets were stretched or shrunk.
pub(crate) fn divide(wishes: &[Wish]) -> (Vec<u32>, f64) {
    let total: u32 = wishes.iter().map(|wish| wish.seats.nominal).sum();
    let limited = || wishes.iter().filter(|wish| !wish.exempt);
    let exempt: u32 = wishes.iter().filter(|wish| wish.exempt).map(Wish::floor).sum();
    let left = i64::from(total) - i64::from(exempt);
    let least: i64 = limited().map(|wish| i64::from(wish.seats.least)).sum();
    let floors: i64 = limited().map(|wish| i64::from(wish.floor())).sum();
    let mut factor = 0.0;
    let mut parts: Vec<f64> = if left <= least {
        limited().map(|wish| f64::from(wish.seats.least)).collect()
    } else if left <= floors {
        let fraction = (left - least) as f64 / (floors - least) as f64;
        let part = |wish: &Wish| {
            let least = f64::from(wish.seats.least);
            least + ((f64::from(wish.floor()) - least) * fraction).round()
        };
        limited().map(part).collect()
    } else {
        let items: Vec<Item> = limited()
            .map(|wish| Item { low: f64::from(wish.floor()), high: f64::from(wish.seats.most), target: wish.target() })
            .collect();
        let filled = fill(f64::from(total), &items);
        factor = filled.1;
        filled.0
    };
    parts.reverse();
    let seats = wishes.iter().map(|wish| match wish.exempt {
        true => wish.floor(),
        false => parts.pop().unwrap_or_default().round() as u32,
    });
    (seats.collect(), factor)
}

struct Item {
    low: f64,
    high: f64,
    target: f64,
}

/// Targets below this count as this.
const LEAST_TARGET: f64 = 0.001;

/// The factor by which all targets are multiplied so that, each kept between its bounds, they sum up to `total`, and the products; the bounds where
/// their sums do not reach that far. What a factor gives grows with it, in straight lines between the factors at which somebody meets a bound.
fn fill(total: f64, items: &[Item]) -> (Vec<f64>, f64) {
    let target = |item: &Item| item.target.max(LEAST_TARGET);
    let given = |item: &Item, factor: f64| (factor * target(item)).clamp(item.low, item.high);
    let sum = |factor: f64| items.iter().map(|item| given(item, factor)).sum::<f64>();
    let mut corners: Vec<f64> =
        items.iter().flat_map(|item| [item.low / target(item), item.high / target(item)]).collect();
    corners.sort_by(f64::total_cmp);
    let last = corners.last().copied().unwrap_or_default();
    let above = corners.partition_point(|corner| sum(*corner) < total);
    let factor = match (above.checked_sub(1).and_then(|below| corners.get(below)), corners.get(above)) {
        (Some(below), Some(above)) => {
            let (low, high) = (sum(*below), sum(*above));
            below + (above - below) * (total - low) / (high - low)
        }
        (None, Some(first)) => *first,
        (_, None) => last,
    };
    (items.iter().map(|item| given(item, factor)).collect(), factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng as _, SeedableRng as _};

    /// The levels that every cluster begins with, and the default of 600 seats.
    #[test]
    fn the_default_levels() {
        let levels = [
            ("catch-all", 5, 0, (13, 13)),
            ("exempt", 0, 0, (0, 0)),
            ("global-default", 20, 50, (49, 24)),
            ("leader-election", 10, 0, (25, 25)),
            ("node-high", 40, 25, (98, 73)),
            ("system", 30, 33, (74, 50)),
            ("workload-high", 40, 50, (98, 49)),
            ("workload-low", 100, 90, (245, 24)),
        ];
        for (name, shares, lendable, (nominal, least)) in levels {
            let part = Part { shares, lendable, borrowing: None, exempt: name == "exempt" };
            let seats = part.seats(600, 245);
            assert_eq!(seats, Seats { nominal, least, most: nominal + 600 }, "{name}");
        }
        let part = Part { shares: 10, lendable: 0, borrowing: Some(50), exempt: false };
        assert_eq!(part.seats(100, 100), Seats { nominal: 10, least: 10, most: 15 });
    }

    fn wish(nominal: u32, lendable: u32, most: u32, wanted: u32) -> Wish {
        let expected = Expected { most: wanted, smoothed: f64::from(wanted), ..Expected::default() };
        Wish { seats: Seats { nominal, least: nominal - lendable, most }, exempt: false, expected }
    }

    #[test]
    fn who_wants_borrows_of_who_does_not() {
        let check = |wishes: &[Wish], want: &[u32]| assert_eq!(divide(wishes).0, want, "{wishes:?}");
        // Nobody wants anything: everybody has the same multiple of what it does not lend.
        check(&[wish(50, 25, 150, 0), wish(50, 25, 150, 0)], &[50, 50]);
        // One wants a lot: it has all that the other lends.
        check(&[wish(50, 25, 150, 400), wish(50, 25, 150, 0)], &[75, 25]);
        // No more than its borrowing limit: the rest stays where it is.
        check(&[wish(50, 25, 60, 400), wish(50, 25, 150, 0)], &[60, 40]);
        // What is lent comes back when its owner wants it.
        check(&[wish(50, 25, 150, 400), wish(50, 25, 150, 50)], &[50, 50]);
        // Exempt requests take theirs first, then what is not lent is kept as long as there is something.
        let exempt = |wanted| Wish { exempt: true, ..wish(0, 0, 0, wanted) };
        check(&[exempt(20), wish(50, 25, 150, 50), wish(50, 25, 150, 50)], &[20, 40, 40]);
        check(&[exempt(90), wish(50, 25, 150, 50), wish(50, 25, 150, 50)], &[90, 25, 25]);
    }

    /// Whatever is wanted: nobody has less than it does not lend or more than it may borrow, and nothing is lost.
    #[test]
    fn seats_are_neither_made_nor_lost() {
        let seed: u64 = rand::rng().random();
        println!("seed {seed}");
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        for _ in 0..2000 {
            let wishes: Vec<Wish> = (0..random.random_range(1..9))
                .map(|_| {
                    let nominal = random.random_range(0..200);
                    let lendable = random.random_range(0..=nominal);
                    wish(nominal, lendable, nominal + random.random_range(0..300), random.random_range(0..500))
                })
                .collect();
            let (seats, _) = divide(&wishes);
            let total: i64 = wishes.iter().map(|wish| i64::from(wish.seats.nominal)).sum();
            let sum: i64 = seats.iter().map(|seats| i64::from(*seats)).sum();
            assert!((sum - total).abs() <= wishes.len() as i64, "{sum} of {total}: {wishes:?}");
            for (seats, wish) in seats.iter().zip(&wishes) {
                assert!((wish.seats.least..=wish.seats.most).contains(seats), "{seats} {wish:?}");
                assert!(*seats >= wish.expected.most.min(wish.seats.nominal), "{seats} {wish:?}");
            }
        }
    }
}
