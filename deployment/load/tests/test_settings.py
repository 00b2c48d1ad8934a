"""What can be set, and what is refused."""

import unittest

from settings import Auth, BadSettings, parse


class SettingsOfARun(unittest.TestCase):
    def test_everything_has_a_default(self) -> None:
        settings = parse([])
        self.assertEqual((settings.host, settings.auth), ("http://127.0.0.1:30080", Auth.OFF))
        self.assertEqual(settings.day_seconds, settings.seconds)
        self.assertEqual(settings.metrics[:2], ("http://127.0.0.1:30080", "http://127.0.0.1:30081"))

    def test_all_mistakes_are_told_at_once(self) -> None:
        with self.assertRaises(BadSettings) as caught:
            parse(["RATE=fast", "AUTH=maybe", "USERS=0", "SPEED=1", "NIGHT=nan"])
        told = str(caught.exception)
        for name in ("RATE", "AUTH", "USERS", "SPEED", "NIGHT"):
            self.assertIn(f"{name}: ", told)
        self.assertEqual(len(told.splitlines()), 5)

    def test_more_arrivals_than_memory_is_there_for_are_refused(self) -> None:
        with self.assertRaisesRegex(BadSettings, "more than 5000000 arrivals"):
            parse(["RATE=10000", "SECONDS=3600"])

    def test_only_this_machine_is_loaded(self) -> None:
        for host in ("http://127.0.0.1:1", "http://127.9.9.9:1", "http://localhost:1", "http://[::1]:1"):
            self.assertEqual(parse([f"HOST={host}"]).host, host)
        for host in (
            "http://shop.example.com",
            "http://10.0.0.1:80",
            "http://localhost.example.com",
            "http://127.0.0.1@10.0.0.1",
        ):
            with self.assertRaisesRegex(BadSettings, "is not this machine", msg=host):
                parse([f"HOST={host}"])

    def test_another_machine_is_loaded_when_it_is_named_twice(self) -> None:
        settings = parse(["HOST=https://shop.example.com", "ALLOW_HOST=shop.example.com"])
        self.assertEqual(settings.host, "https://shop.example.com")
        with self.assertRaises(BadSettings):
            parse(["HOST=https://shop.example.com", "ALLOW_HOST=example.com"])

    def test_what_is_no_address_is_told(self) -> None:
        for host in ("127.0.0.1:80", "ftp://127.0.0.1", "http://", "http://127.0.0.1:99999"):
            with self.assertRaisesRegex(BadSettings, "is no http://HOST:PORT", msg=host):
                parse([f"HOST={host}"])


if __name__ == "__main__":
    unittest.main()
