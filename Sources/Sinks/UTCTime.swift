import ReplicationCore

/// A moment as people and programs read it: `2026-07-01T09:30:00.000001Z`.
enum UTCTime {
    private static let microsecondsADay: Int64 = 86_400_000_000

    static func text(_ time: PostgresTime) -> String {
        let unix = time.unixMicroseconds
        let day = unix >= 0 ? unix / microsecondsADay : (unix + 1) / microsecondsADay - 1
        let rest = unix - day * microsecondsADay
        let (year, month, date) = civil(day)
        let seconds = rest / 1_000_000
        return "\(padded(year, 4))-\(padded(month, 2))-\(padded(date, 2))T"
            + "\(padded(seconds / 3_600, 2)):\(padded(seconds / 60 % 60, 2)):\(padded(seconds % 60, 2))."
            + "\(padded(rest % 1_000_000, 6))Z"
    }

    /// The Gregorian date of a day since 1970-01-01. Counts years from March, so that leap days come last, in eras of
    /// 400 years (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    private static func civil(_ day: Int64) -> (year: Int64, month: Int64, day: Int64) {
        let shifted = day + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let marchMonth = (5 * dayOfYear + 2) / 153
        let month = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        return (year, month, dayOfYear - (153 * marchMonth + 2) / 5 + 1)
    }

    private static func padded(_ value: Int64, _ width: Int) -> String {
        let digits = String(value)
        return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
}
