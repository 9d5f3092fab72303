/// Finds the word a person probably meant.
public enum NearestWord {
    /// The candidate with the smallest edit distance to `word`, letter case ignored; `nil` when none is close:
    /// more than a third of the word, and more than two letters, would have to change.
    public static func among(_ candidates: some Sequence<String>, to word: String) -> String? {
        let wanted = Array(word.lowercased().unicodeScalars)
        var limit = max(2, wanted.count / 3)
        // A word of two letters is two edits away from every other.
        if wanted.count <= 3 { limit = 1 }
        var best: (word: String, distance: Int)?
        for candidate in candidates where candidate != word {
            let letters = Array(candidate.lowercased().unicodeScalars)
            let bound = best.map { $0.distance - 1 } ?? limit
            guard abs(letters.count - wanted.count) <= bound else { continue }
            let distance = distance(wanted, letters)
            if distance <= bound { best = (candidate, distance) }
            if distance == 0 { break }
        }
        return best?.word
    }

    /// Levenshtein's distance, where two letters that changed places count as one edit.
    private static func distance(_ left: [Unicode.Scalar], _ right: [Unicode.Scalar]) -> Int {
        if left.isEmpty || right.isEmpty { return max(left.count, right.count) }
        var beforePrevious: [Int] = []
        var previous = Array(0...right.count)
        for row in left.indices {
            var current = [row + 1]
            current.reserveCapacity(right.count + 1)
            for column in right.indices {
                let replaced = previous[column] + (left[row] == right[column] ? 0 : 1)
                var best = min(replaced, previous[column + 1] + 1, current[column] + 1)
                if row > 0, column > 0, left[row] == right[column - 1], left[row - 1] == right[column] {
                    best = min(best, beforePrevious[column - 1] + 1)
                }
                current.append(best)
            }
            beforePrevious = previous
            previous = current
        }
        return previous[right.count]
    }
}
