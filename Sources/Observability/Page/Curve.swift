/// A small chart of the last minutes, as inline SVG. The newest sample is at the right edge.
struct Curve {
    static let width = 300.0
    static let height = 56.0
    /// Room for the line's own thickness.
    static let margin = 2.0

    let values: [Double?]
    /// How many samples the whole width shows.
    let span: Int
    /// The scale's top is at least this, so that noise near zero looks like what it is.
    let least: Double

    var top: Double { max(least, values.compactMap(\.self).max() ?? 0) }

    var svg: String {
        let runs = runs()
        var text = "<svg class=\"curve\" viewBox=\"0 0 \(Int(Self.width)) \(Int(Self.height))\""
        text += " preserveAspectRatio=\"none\" aria-hidden=\"true\">"
        for line in [1, 2] {
            let y = Self.text(Self.height * Double(line) / 3)
            text += "<path class=\"grid\" d=\"M0 \(y)H\(Int(Self.width))\"/>"
        }
        for run in runs {
            let line = run.map { "\(Self.text($0.x)) \(Self.text($0.y))" }.joined(separator: "L")
            guard let first = run.first, let last = run.last else { continue }
            let foot = Self.text(Self.height)
            text += "<path class=\"area\" d=\"M\(Self.text(first.x)) \(foot)L\(line)L\(Self.text(last.x)) \(foot)Z\"/>"
            text += "<path class=\"line\" d=\"M\(line)\"/>"
        }
        return text + "</svg>"
    }

    /// Consecutive known samples; a gap stays a gap.
    private func runs() -> [[(x: Double, y: Double)]] {
        let step = Self.width / Double(max(1, span - 1))
        let start = Self.width - step * Double(max(0, values.count - 1))
        var runs: [[(x: Double, y: Double)]] = []
        var current: [(x: Double, y: Double)] = []
        for (index, value) in values.enumerated() {
            if let value {
                let share = min(1, max(0, value / top))
                let y = Self.height - Self.margin - share * (Self.height - 2 * Self.margin)
                current.append((start + step * Double(index), y))
            } else if !current.isEmpty {
                runs.append(current)
                current = []
            }
        }
        return current.isEmpty ? runs : runs + [current]
    }

    /// One decimal is finer than a pixel.
    private static func text(_ value: Double) -> String {
        let tenths = Int((value * 10).rounded())
        return tenths % 10 == 0 ? "\(tenths / 10)" : "\(tenths < 0 ? "-" : "")\(abs(tenths) / 10).\(abs(tenths) % 10)"
    }
}
