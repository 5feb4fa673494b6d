import threading

from jaxstyle.data import SkippedPhotos


def test_nothing_happened():
    skipped = SkippedPhotos()
    assert (len(skipped), skipped.summary(), skipped.reasons, skipped.converted) == (0, "", {}, {})


def test_every_photograph_counts_once_and_keeps_its_first_reason():
    skipped = SkippedPhotos()
    skipped.add_skipped("a.jpg", "truncated")
    skipped.add_skipped("b.jpg", "tiny")
    skipped.add_skipped("a.jpg", "gone")
    assert skipped.summary() == "skipped 2 photographs: a.jpg (truncated), b.jpg (tiny)"


def test_conversions_are_counted_by_kind_most_common_first():
    skipped = SkippedPhotos()
    for name, form in [("a", "CMYK"), ("b", "grayscale"), ("c", "grayscale"), ("b", "grayscale")]:
        skipped.add_converted(name, form)
    assert skipped.summary() == "converted 3 to RGB (2 grayscale, 1 CMYK)"
    assert skipped.converted == {"a": "CMYK", "b": "grayscale", "c": "grayscale"}
    assert len(skipped) == 0


def test_a_long_list_is_cut_and_counted():
    skipped = SkippedPhotos()
    for index in range(23):
        skipped.add_skipped(f"{index}.jpg", "broken")
    summary = skipped.summary()
    assert summary.startswith("skipped 23 photographs: 0.jpg (broken), ")
    assert summary.endswith("19.jpg (broken), and 3 more")


def test_names_that_are_not_text_can_be_printed():
    skipped = SkippedPhotos()
    skipped.add_skipped("caf\udce9 写.jpg", "broken")
    assert skipped.summary().encode() == "skipped 1 photograph: caf\\udce9 写.jpg (broken)".encode()


def test_threads_may_write_while_another_reads():
    skipped = SkippedPhotos()

    def write(start: int) -> None:
        for index in range(300):
            skipped.add_skipped(f"{(start + index) % 400}", "broken")
            skipped.summary()

    threads = [threading.Thread(target=write, args=(100 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(skipped) == 400
