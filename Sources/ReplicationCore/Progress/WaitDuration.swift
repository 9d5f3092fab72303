/// How long somebody wants to wait, as people write it: `250ms`, `5s`, `1min`.
public enum WaitDuration {
    /// A day; nobody waits longer for a replica.
    public static let longestMilliseconds = 86_400_000

    private static let units: [(name: String, milliseconds: Int)] = [("ms", 1), ("min", 60_000), ("s", 1_000), ("h", 3_600_000)]

    /// `nil` for anything without a unit, negative, or longer than a day.
    public static func milliseconds(_ text: some StringProtocol) -> Int? {
        let text = String(text)
        guard let unit = units.first(where: { text.hasSuffix($0.name) }) else { return nil }
        let digits = text.dropLast(unit.name.count)
        guard (1...9).contains(digits.utf8.count), digits.utf8.allSatisfy({ (48...57).contains($0) }), let number = Int(digits)
        else { return nil }
        let milliseconds = number * unit.milliseconds
        return milliseconds <= longestMilliseconds ? milliseconds : nil
    }
}
