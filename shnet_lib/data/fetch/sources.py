"""Where the parts of the data sets are found, as people reported it up to 2025.

None of these addresses was reached when this was written.
"""

from dataclasses import dataclass

# The original server of the REFER annotations is down for most, so the Internet Archive's copy of
# the same address is asked first.
UNC = "https://bvisionweb1.cs.unc.edu/licheng/referit/data/{folder}.zip"
ARCHIVED_AT = {
    "refclef": "20220413011817",
    "refcoco": "20220413011718",
    "refcoco+": "20220413011656",
    "refcocog": "20220413012904",
}


@dataclass(frozen=True)
class Sources:
    """Addresses of each part, the first to try first. {folder} and {file_name} are filled in."""

    annotations: tuple[str, ...] = ()
    photos: tuple[str, ...] = ()
    glove: tuple[str, ...] = ()
    coco: tuple[str, ...] = ()  # the instances of COCO's release of 2017
    coco_val: tuple[str, ...] = ()  # its validation photos

    def first(self, mirror: str) -> "Sources":
        """The same, with a mirror that is asked before them: below it lie refcoco.zip,
        refcoco+.zip, refcocog.zip, train2014/ with the photos, glove.840B.300d.zip,
        annotations_trainval2017.zip and val2017/."""
        base = mirror.rstrip("/")
        return Sources(
            (f"{base}/{{folder}}.zip", *self.annotations),
            (f"{base}/train2014/{{file_name}}", *self.photos),
            (f"{base}/glove.840B.300d.zip", *self.glove),
            (f"{base}/annotations_trainval2017.zip", *self.coco),
            (f"{base}/val2017/{{file_name}}", *self.coco_val),
        )

    def annotations_of(self, folder: str) -> list[str]:
        """The addresses of the zip that holds `folder`, "refcoco" for example."""
        time = ARCHIVED_AT[folder]
        return [address.format(folder=folder, time=time) for address in self.annotations]


# COCO's own address has no valid certificate; the second is the same store by its own name.
COCO_STORES = (
    "http://images.cocodataset.org",
    "https://s3.amazonaws.com/images.cocodataset.org",
)
NO_SOURCES = Sources()
PUBLISHED = Sources(
    annotations=("https://web.archive.org/web/{time}/" + UNC, UNC),
    photos=tuple(f"{store}/train2014/{{file_name}}" for store in COCO_STORES),
    glove=(
        "https://nlp.stanford.edu/data/glove.840B.300d.zip",
        "https://huggingface.co/stanfordnlp/glove/resolve/main/glove.840B.300d.zip",
    ),
    coco=tuple(f"{store}/annotations/annotations_trainval2017.zip" for store in COCO_STORES),
    coco_val=tuple(f"{store}/val2017/{{file_name}}" for store in COCO_STORES),
)
