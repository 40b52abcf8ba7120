"""Names of months, as dates in several languages have them, without accents."""

from __future__ import annotations

__all__ = ["MONTHS"]

# For each language twelve places; a month that has several names has bars between them.
_LANGUAGES = {
    "English": (
        "jan|january feb|february mar|march apr|april may jun|june jul|july aug|august "
        "sep|sept|september oct|october nov|november dec|december"
    ),
    "German": (
        "januar februar marz|mrz april mai juni juli august september oktober|okt november "
        "dezember|dez"
    ),
    "French": (
        "janvier|janv fevrier|fevr mars avril|avr mai juin juillet|juil aout septembre octobre "
        "novembre decembre"
    ),
    "Spanish": (
        "enero|ene febrero marzo abril|abr mayo junio julio agosto|ago septiembre octubre "
        "noviembre diciembre|dic"
    ),
    "Italian": (
        "gennaio|gen febbraio marzo aprile maggio|mag giugno|giu luglio|lug agosto settembre|set "
        "ottobre|ott novembre dicembre"
    ),
    "Portuguese": (
        "janeiro fevereiro|fev marco abril maio junho julho agosto setembro outubro|out novembro "
        "dezembro"
    ),
    "Dutch": (
        "januari februari maart|mrt april mei juni juli augustus september oktober november "
        "december"
    ),
    "Scandinavian": (
        "januari februari mars|marts april maj juni juli augusti september oktober november "
        "desember"
    ),
    "Polish": (
        "stycznia|styczen|sty lutego|luty|lut marca|marzec kwietnia|kwiecien|kwi maja|maj "
        "czerwca|czerwiec|cze lipca|lipiec|lip sierpnia|sierpien|sie wrzesnia|wrzesien|wrz "
        "pazdziernika|pazdziernik|paz listopada|listopad|lis grudnia|grudzien|gru"
    ),
    "Czech": (
        "ledna|leden unora|unor brezna|brezen dubna|duben kvetna|kveten cervna|cerven "
        "cervence|cervenec srpna|srpen zari rijna|rijen listopadu prosince|prosinec"
    ),
    "Turkish": (
        "ocak|oca subat|sub mart nisan|nis mayis haziran|haz temmuz|tem agustos|agu eylul|eyl "
        "ekim|eki kasim|kas aralik|ara"
    ),
    "Finnish": (
        "tammikuuta|tammikuu helmikuuta|helmikuu maaliskuuta|maaliskuu huhtikuuta|huhtikuu "
        "toukokuuta|toukokuu kesakuuta|kesakuu heinakuuta|heinakuu elokuuta|elokuu "
        "syyskuuta|syyskuu lokakuuta|lokakuu marraskuuta|marraskuu joulukuuta|joulukuu"
    ),
    "Hungarian": (
        "januar februar|febr marcius|marc aprilis majus junius julius augusztus "
        "szeptember|szept oktober november december"
    ),
    "Romanian": (
        "ianuarie|ian februarie martie aprilie mai iunie|iun iulie|iul august septembrie octombrie "
        "noiembrie|noi decembrie"
    ),
    "Indonesian": (
        "januari februari maret april mei juni juli agustus september oktober november desember|des"
    ),
    "Greek": (
        "ιανουαριου|ιανουαριος|ιαν φεβρουαριου|φεβρουαριος|φεβ μαρτιου|μαρτιος|μαρ "
        "απριλιου|απριλιος|απρ μαιου|μαιος|μαι ιουνιου|ιουνιος|ιουν ιουλιου|ιουλιος|ιουλ "
        "αυγουστου|αυγουστος|αυγ σεπτεμβριου|σεπτεμβριος|σεπ οκτωβριου|οκτωβριος|οκτ "
        "νοεμβριου|νοεμβριος|νοε δεκεμβριου|δεκεμβριος|δεκ"
    ),
    "Ukrainian": (
        "січня|січень лютого|лютии березня|березень квітня|квітень травня|травень червня|червень "
        "липня|липень серпня|серпень вересня|вересень жовтня|жовтень листопада|листопад "
        "грудня|грудень"
    ),
    "Bulgarian": (
        "януари февруари март април маи юни юли август септември октомври ноември декември"
    ),
    "Russian": (
        "января|январь|янв февраля|февраль|фев марта|март|мар апреля|апрель|апр мая|маи "
        "июня|июнь|июн июля|июль|июл августа|август|авг сентября|сентябрь|сен|сент "
        "октября|октябрь|окт ноября|ноябрь|ноя декабря|декабрь|дек"
    ),
}

# The number of the month that each name is of, from 1.
MONTHS = {
    name: number
    for months in _LANGUAGES.values()
    for number, names in enumerate(months.split(), 1)
    for name in names.split("|")
}
