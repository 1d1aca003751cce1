"""Datasets: what can be downloaded from where, and what lies behind an agreement, with licence and citation."""

from dataclasses import dataclass
from importlib.resources import files as package_files
from urllib.parse import quote

from echolung.downloads.remote import Remote

GITHUB = "https://raw.githubusercontent.com"
POCUS_REVISION = "5ab134eb60b913665a37a7535503150018232045"


@dataclass(frozen=True)
class Source:
    """Where a dataset comes from.

    Attributes:
        title: its name, for people.
        home: where its makers describe it.
        licence: under what terms its videos come, in a sentence or two.
        citation: what to cite.
        bibtex: the same, for LaTeX.
        places: beginnings of the URLs of its files, tried in order; none where it lies behind an agreement.
        perhaps: files that its tables name and its repository may lack; no failure where they are absent.
        steps: behind an agreement: what to do, one sentence each.
        layout: behind an agreement: how the folder looks in the end.
    """

    title: str
    home: str
    licence: str
    citation: str
    bibtex: str
    places: tuple[str, ...] = ()
    perhaps: frozenset[str] = frozenset()
    steps: tuple[str, ...] = ()
    layout: str = ""


def remotes(name: str) -> list[Remote]:
    """Return the files of a dataset that can be downloaded, with the digests of `digests/<name>.txt`.

    A line there is `sha256  bytes  path`, or `-  0  path` of a file whose digest is not kept here.
    """
    text = package_files("echolung.downloads").joinpath("digests", f"{name}.txt").read_text("utf-8")
    found = []
    for line in text.splitlines():
        sha256, size, path = line.split("  ", 2)
        urls = tuple(place + quote(path) for place in SOURCES[name].places)
        found.append(Remote(path, urls, "" if sha256 == "-" else sha256, int(size)))
    return found


_VIDEOS = "data/pocus_videos"

SOURCES = {
    "pocus": Source(
        title="POCUS lung ultrasound (covid19_ultrasound)",
        home="https://github.com/jannisborn/covid19_ultrasound",
        licence="Every video has a licence of its own: see the columns License and LinkToLicense of data/dataset_metadata.csv "
        "(CC BY 4.0, CC BY-NC 4.0, CC BY-NC-SA and others). Whether your use is allowed is for you to check.",
        citation="J. Born et al., Accelerating Detection of Lung Pathologies with Explainable Ultrasound Image Analysis, "
        "Applied Sciences 11(2):672, 2021. doi:10.3390/app11020672",
        bibtex="""@article{born2021accelerating,
  title = {Accelerating Detection of Lung Pathologies with Explainable Ultrasound Image Analysis},
  author = {Born, Jannis and Wiedemann, Nina and Cossio, Manuel and Buhre, Charlotte and Br{\\"a}ndle, Gabriel and
            Leidermann, Konstantin and Aujayeb, Avinash and Moor, Michael and Rieck, Bastian and Borgwardt, Karsten},
  journal = {Applied Sciences},
  volume = {11},
  number = {2},
  pages = {672},
  year = {2021},
  doi = {10.3390/app11020672}
}
""",
        places=(
            f"{GITHUB}/jannisborn/covid19_ultrasound/{POCUS_REVISION}/",
            f"{GITHUB}/jannisborn/covid19_ultrasound/master/",
        ),
        perhaps=frozenset(
            {
                f"{_VIDEOS}/convex/Cov_denault_proposedUS_vid2.mov",
                f"{_VIDEOS}/convex/Cov_emdocs_vid1.gif",
                f"{_VIDEOS}/convex/Cov_emdocs_vid3.gif",
                f"{_VIDEOS}/linear/Cov_emdocs_vid2.gif",
            }
        ),
    ),
    "covid-blues": Source(
        title="COVID-BLUES",
        home="https://github.com/NinaWie/COVID-BLUES",
        licence="CC BY-NC-ND 4.0 (https://creativecommons.org/licenses/by-nc-nd/4.0/): not for commercial use, and nothing "
        "derived from the videos may be passed on.",
        citation="N. Wiedemann et al., COVID-BLUeS - A Prospective Study on the Value of AI in Lung Ultrasound Analysis, "
        "IEEE Journal of Biomedical and Health Informatics 29(9):6301-6310, 2025. doi:10.1109/JBHI.2025.3543686",
        bibtex="""@article{wiedemann2025covid,
  title = {COVID-BLUeS - A Prospective Study on the Value of AI in Lung Ultrasound Analysis},
  author = {Wiedemann, Nina and Boer, Dianne de Korte-de and Richter, Matthias and van de Weijer, Sjors and Buhre, Charlotte
            and Eggert, Franz A. M. and Aarnoudse, Sophie and Grevendonk, Lotte and R{\\"o}ber, Steffen and Remie, Carlijn M. E.
            and Buhre, Wolfgang and Henry, Ronald and Born, Jannis},
  journal = {IEEE Journal of Biomedical and Health Informatics},
  volume = {29},
  number = {9},
  pages = {6301--6310},
  year = {2025},
  doi = {10.1109/JBHI.2025.3543686}
}
""",
        places=(
            f"{GITHUB}/NinaWie/COVID-BLUES/main/",
            "https://huggingface.co/datasets/jannisborn/COVID-BLUES/resolve/main/",
        ),
        perhaps=frozenset({"LICENSE"}),
    ),
    "echonet-dynamic": Source(
        title="EchoNet-Dynamic",
        home="https://echonet.github.io/dynamic",
        licence="Stanford University's research-use agreement: research only, no redistribution.",
        citation="D. Ouyang et al., Video-based AI for beat-to-beat assessment of cardiac function, Nature 580:252-256, 2020. "
        "doi:10.1038/s41586-020-2145-8",
        bibtex="""@article{ouyang2020video,
  title = {Video-based {AI} for beat-to-beat assessment of cardiac function},
  author = {Ouyang, David and others},
  journal = {Nature},
  volume = {580},
  pages = {252--256},
  year = {2020},
  doi = {10.1038/s41586-020-2145-8}
}
""",
        steps=(
            "Open https://echonet.github.io/dynamic and follow it to Stanford AIMI.",
            "Make an account there, read the research-use agreement and agree to it.",
            "Download the archive and unpack it.",
        ),
        layout="""EchoNet-Dynamic/
  FileList.csv
  VolumeTracings.csv
  Videos/<name>.avi        10,030 of them""",
    ),
    "echonet-pediatric": Source(
        title="EchoNet-Pediatric",
        home="https://echonet.github.io/pediatric",
        licence="Stanford University's research-use agreement: research only, no redistribution.",
        citation="C. D. Reddy et al., Video-Based Deep Learning for Automated Assessment of Left Ventricular Ejection Fraction "
        "in Pediatric Patients, Journal of the American Society of Echocardiography 36(5):482-489, 2023.",
        bibtex="""@article{reddy2023video,
  title = {Video-Based Deep Learning for Automated Assessment of Left Ventricular Ejection Fraction in Pediatric Patients},
  author = {Reddy, Charitha D. and others},
  journal = {Journal of the American Society of Echocardiography},
  volume = {36},
  number = {5},
  pages = {482--489},
  year = {2023}
}
""",
        steps=(
            "Open https://echonet.github.io/pediatric and follow it to Stanford AIMI.",
            "Make an account there, read the research-use agreement and agree to it.",
            "Download the archive and unpack it.",
        ),
        layout="""pediatric_echo_avi/pediatric_echo_avi/
  A4C/
    FileList.csv
    VolumeTracings.csv
    Videos/<patient>-<visit>-<instance>.avi
  PSAX/                    the same""",
    ),
    "camus": Source(
        title="CAMUS",
        home="https://www.creatis.insa-lyon.fr/Challenge/camus",
        licence="The terms that come with the download: for research, with citation.",
        citation="S. Leclerc et al., Deep Learning for Segmentation using an Open Large-Scale Dataset in 2D Echocardiography, "
        "IEEE Transactions on Medical Imaging 38(9):2198-2210, 2019. doi:10.1109/TMI.2019.2900516",
        bibtex="""@article{leclerc2019deep,
  title = {Deep Learning for Segmentation using an Open Large-Scale Dataset in 2D Echocardiography},
  author = {Leclerc, Sarah and others},
  journal = {IEEE Transactions on Medical Imaging},
  volume = {38},
  number = {9},
  pages = {2198--2210},
  year = {2019},
  doi = {10.1109/TMI.2019.2900516}
}
""",
        steps=(
            "Open https://www.creatis.insa-lyon.fr/Challenge/camus and follow it to the database.",
            "Register there, which is free, and accept the terms.",
            "Download the release in NIfTI (.nii.gz; not the .mhd of 2018) and unpack it.",
        ),
        layout="""CAMUS_public/
  database_nifti/patient0001/
    Info_4CH.cfg, Info_2CH.cfg
    patient0001_4CH_half_sequence.nii.gz, patient0001_2CH_half_sequence.nii.gz
  database_split/subgroup_{training,validation,testing}.txt""",
    ),
    "hmc-qu": Source(
        title="HMC-QU",
        home="https://www.kaggle.com/datasets/aysendegerli/hmcqu-dataset",
        licence="CC BY-NC-SA 3.0 IGO, as Kaggle has it.",
        citation="A. Degerli et al., Early Detection of Myocardial Infarction in Low-Quality Echocardiography, "
        "IEEE Access 9:34442-34453, 2021.",
        bibtex="""@article{degerli2021early,
  title = {Early Detection of Myocardial Infarction in Low-Quality Echocardiography},
  author = {Degerli, Aysen and others},
  journal = {IEEE Access},
  volume = {9},
  pages = {34442--34453},
  year = {2021}
}
""",
        steps=(
            "Open https://www.kaggle.com/datasets/aysendegerli/hmcqu-dataset and sign in to Kaggle.",
            "Accept the licence there and download the archive.",
            "Unpack it, and see that the folder HMC-QU holds AVI files: a package without them has been seen.",
        ),
        layout="""A4C.xlsx
A2C.xlsx
HMC-QU/A4C/<name>.avi, HMC-QU/A2C/<name>.avi
LV Ground-truth Segmentation Masks/Mask_<name>.mat""",
    ),
}
"""Name -> where it comes from."""
