/// Numbers as people read them.
public enum PlainText {
    public static func bytes(_ value: some BinaryInteger) -> String { bytes(Double(value)) }

    public static func bytes(_ value: Double) -> String {
        var value = value
        for unit in ["B", "kB", "MB", "GB"] {
            if abs(value) < 1_000 { return unit == "B" ? "\(whole(value)) B" : "\(oneDecimal(value)) \(unit)" }
            value /= 1_000
        }
        return "\(oneDecimal(value)) TB"
    }

    public static func seconds(_ value: Double) -> String {
        switch value {
        case ..<0.9995: "\(whole((value * 1_000).rounded())) ms"
        case ..<120: "\(oneDecimal(value)) s"
        case ..<7_200: "\(whole(value / 60)) min"
        case ..<172_800: "\(oneDecimal(value / 3_600)) h"
        default: "\(count(whole(value / 86_400))) days"
        }
    }

    /// `1204331` as `1,204,331`.
    public static func count(_ value: Int) -> String {
        let digits = Array(String(value.magnitude))
        var text = value < 0 ? "-" : ""
        for (index, digit) in digits.enumerated() {
            if index > 0 && (digits.count - index) % 3 == 0 { text.append(",") }
            text.append(digit)
        }
        return text
    }

    /// `1 table`, `2 tables`.
    public static func count(_ value: Int, _ thing: String) -> String { count(value) + " \(thing)" + (value == 1 ? "" : "s") }

    /// Things a second: whole above 10.
    public static func rate(_ value: Double) -> String {
        value < 10 && value.rounded() != value ? oneDecimal(value) : count(whole(value.rounded()))
    }

    /// A fraction from 0 to 1 in percent, rounded down, so that 100 % is all.
    public static func percent(_ fraction: Double) -> String { "\(whole((fraction * 100).rounded(.down))) %" }

    /// With one decimal, such as `3.2`.
    public static func tenths(_ value: Double) -> String { oneDecimal(value) }

    /// The nearest whole number below `Int.max`: a rate near zero makes times that no integer holds.
    private static func whole(_ value: Double) -> Int {
        value.isNaN ? 0 : Int(max(-9e15, min(9e15, value)))
    }

    private static func oneDecimal(_ value: Double) -> String {
        let tenths = whole((value * 10).rounded())
        let sign = tenths < 0 ? "-" : ""
        return "\(sign)\(tenths.magnitude / 10).\(tenths.magnitude % 10)"
    }
}
