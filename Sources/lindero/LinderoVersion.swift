/// The version that `lindero version` prints.
enum LinderoVersion {
    static let current = "0.1.0"
}
