/// Whether two databases put the labels of an enum in one order, which is what `max` and `min` go by.
public enum LabelOrder {
    /// Two labels of which the first comes earlier here and later there; `nil` where there are none. What one side alone has is
    /// no value on the other.
    public static func difference(_ here: [String], _ there: [String]) -> (earlier: String, later: String)? {
        let places = Dictionary(there.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
        let common = here.compactMap { label in places[label].map { (label: label, place: $0) } }
        return zip(common, common.dropFirst()).first { $0.place > $1.place }.map { ($0.label, $1.label) }
    }
}
