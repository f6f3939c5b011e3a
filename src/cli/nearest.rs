//! "Did you mean": the name that is most like one that does not exist.

/// Names less alike than this are not worth a question (0: nothing alike, 1: the same).
const ALIKE_MIN: f64 = 0.7;

/// Of `names`, the one most like `name`, if any is like it at all; upper and lower case are the same.
pub(super) fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let scored = names.into_iter().map(|known| {
        // How alike they are as a whole, and how many letters would have to change: the first alone
        // thinks that everything that begins alike is alike.
        let lower = known.to_lowercase();
        let alike = strsim::jaro_winkler(&name, &lower)
            .min((strsim::normalized_damerau_levenshtein(&name, &lower) + 1.0) / 2.0);
        (alike, known)
    });
    let best = scored.max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.filter(|(alike, _)| *alike >= ALIKE_MIN).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_understood_and_strangers_are_not_guessed_at() {
        let markets = ["ETH-SOL", "BTC-USDC.eth", "SOL-USDC.eth"];
        for (wrong, meant) in [
            ("ETH-SLO", Some("ETH-SOL")),
            ("eth-sol", Some("ETH-SOL")),
            ("ETHSOL", Some("ETH-SOL")),
            ("BTC-USDC", Some("BTC-USDC.eth")),
            ("DOGE", None),
        ] {
            assert_eq!(nearest(wrong, markets), meant, "{wrong}");
        }
        assert_eq!(nearest("ETH", []), None);
    }
}
