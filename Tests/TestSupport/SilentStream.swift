import PostgresClient

extension ConnectionOptions {
    /// For a stream that tells its server nothing while a test does other things, however long those take.
    public var withoutSenderTimeout: ConnectionOptions {
        var options = self
        options.settings.append((name: "wal_sender_timeout", value: "0"))
        return options
    }
}
