-- What was ever sent back, by its content: a record whose headers say that it is a dead letter that comes back is believed
-- when it stands here. Anybody can write headers.
CREATE TABLE sent_dead_letters (
    letter_id uuid NOT NULL,
    content_digest bytea NOT NULL,
    PRIMARY KEY (letter_id, content_digest)
);
