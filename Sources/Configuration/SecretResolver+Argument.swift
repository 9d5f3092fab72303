import ReplicationCore

extension SecretResolver {
    /// The connection string that a command-line argument stands for: `env:NAME`, `file:PATH`, `service:NAME`, or a
    /// connection string without a password, since every user of the machine can read arguments.
    ///
    /// - Parameter name: the option, for messages, such as `--source`.
    public func conninfo(argument text: String, name: String) throws(SecretError) -> String {
        let reference: SecretReference
        do throws(SecretText.Failure) {
            reference = try SecretText.parse(text)
        } catch {
            switch error {
            case .containsPassword: throw .passwordInArgument(name)
            case .malformed: throw .malformedArgument(name)
            }
        }
        return try conninfo(of: DatabaseSettings(name: name, url: reference))
    }
}
