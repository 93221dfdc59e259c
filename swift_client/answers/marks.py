"""Words that mark, correct or end an answer, in many languages; ``markers.py`` searches them.

A row of ``LANGUAGES`` is one language. *Firm* nouns ("answer") name the answer of the text wherever they stand; *loose*
ones ("result", "solution") may name a step, so they count as a label at the start of a line ("Result: 42") or near the
end. A noun is a mark if a colon, an equals sign, the end of a heading or one of the row's verbs follows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from swift_client.answers.sentences import UNSPACED


@dataclass(frozen=True, slots=True)
class Language:
    """The marks of one language."""

    firm: tuple[str, ...]  # nouns, in lower case
    loose: tuple[str, ...]
    verbs: str  # regex alternatives
    lead: str = ""  # regex alternatives: words between the start of a line and the noun
    spaced: bool = True  # whether the language puts spaces between words


# fmt: off
LANGUAGES = (
    Language(("answer", "ans"), ("result", "solution", "conclusion", "verdict", "output", "correct option",
     "correct choice", "final value", "final verdict"),
             r"is|be|are|was|equals|becomes|comes to",
             r"the|my|our|your|so|thus|hence|therefore|final|correct|short|complete|overall|numeric"
             r"|numerical|right|best|exact|and|end|now|then"),
    Language(("antwort", "endantwort", "schlussantwort"), ("ergebnis", "endergebnis", "resultat", "lösung",
     "loesung", "fazit"),
             r"ist|lautet|lauten|sind|beträgt|wäre|heißt|war",
              r"die|das|meine|unsere|also|daher|somit|folglich|finale|endgültige|richtige|korrekte|und"),
    Language(("réponse", "reponse"), ("résultat", "resultat", "solution", "conclusion"),
             r"est|sont|serait|vaut|égale|sera", r"la|le|ma|notre|donc|ainsi|alors|finale|final|bonne|correcte|et"),
    Language(("respuesta",), ("resultado", "solución", "solucion", "conclusión"),
             r"es|son|sería|será|sea|equivale a", r"la|el|mi|nuestra|final|correcta|por|lo|tanto|entonces|así|que|y"),
    Language(("resposta",), ("resultado", "solução", "conclusão", "resultat", "solució"),
             r"é|são|seria|será|és|são|igual a",
              r"a|o|la|el|minha|nossa|portanto|logo|assim|então|final|correta|correcta|e"),
    Language(("risposta",), ("risultato", "soluzione", "conclusione"),
             r"è|é|e'|sono|sarebbe|sarà", r"la|il|mia|nostra|quindi|dunque|perciò|finale|corretta|esatta|e"),
    Language(("antwoord", "eindantwoord"), ("resultaat", "uitkomst", "oplossing", "conclusie", "eindresultaat"),
             r"is|zijn|luidt|bedraagt|wordt", r"het|de|mijn|ons|dus|daarom|juiste|uiteindelijke|definitieve|en"),
    Language(("svar", "svaret", "slutsvar", "fasit"), ("resultat", "resultatet", "lösning", "lösningen", "løsning",
     "løsningen"),
             r"är|er|blir|bliver|lyder",
              r"det|mitt|mit|vårt|altså|alltså|därför|derfor|slutgiltiga|endelige|endelig|rätt|rätta|riktige"
              r"|rigtige|korrekte|korrekta"),
    Language(("vastaus", "vastaukseni"), ("tulos", "lopputulos", "ratkaisu"), r"on|ovat",
     r"oikea|lopullinen|siis|joten|näin|ollen"),
    Language(("odpowiedź", "odpowiedz", "odpowiedzią"), ("wynik", "wynikiem", "rozwiązanie", "rozwiązaniem"),
             r"to|jest|brzmi|wynosi|są", r"prawidłowa|poprawna|ostateczna|końcowa|moja|więc|zatem|a"),
    Language(("odpověď", "odpovědí", "odpoveď", "odpoveďou"), ("výsledek", "výsledkem", "výsledok", "výsledkom",
     "řešení", "riešenie"),
             r"je|jsou|sú|zní|znie|činí", r"správná|správna|konečná|moje|moja|tedy|teda|takže"),
    Language(("răspuns", "răspunsul", "raspuns", "raspunsul"), ("rezultat", "rezultatul", "soluția"),
     r"este|e|sunt", r"corect|final|deci|așadar|prin|urmare"),
    Language(("válasz", "válaszom", "végválasz"), ("eredmény", "végeredmény", "megoldás"), r"az|a",
     r"az|a|végső|helyes|tehát|így"),
    Language(("cevap", "cevabı", "cevabım", "yanıt", "yanıtı"), ("sonuç", "çözüm"), r"şudur|budur|şöyledir|eşittir",
     r"doğru|nihai|son|kesin|sonuç|olarak|yani"),
    Language(("jawaban", "jawabannya", "jawapan", "jawapannya"), ("hasil", "hasilnya", "penyelesaian"),
     r"adalah|ialah|yaitu|yakni|sama dengan", r"jadi|maka|akhir|yang|benar|oleh|karena|itu"),
    Language(("đáp án", "đáp số", "câu trả lời", "trả lời"), ("kết quả", "lời giải"), r"là|bằng",
     r"vậy|do|đó|vì|cuối|cùng|đúng"),
    Language(("odgovor",), ("rezultat", "rešenje", "rešitev", "rješenje"), r"je|glasi|su",
     r"tačan|točan|konačni|konačan|pravilen|dakle"),
    Language(("ответ", "ответом"), ("результат", "результатом", "итог", "итого", "решение", "вывод"),
             r"это|есть|равен|равно|равна|равняется|составляет|будет|является|[-–—]",
              r"итак|правильный|верный|окончательный|мой|наш|значит|следовательно|таким|образом|поэтому"),
    Language(("відповідь", "відповіддю"), ("результат", "підсумок"), r"це|є|дорівнює|становить|буде|[-–—]",
     r"отже|таким|чином|правильна|остаточна|кінцева"),
    Language(("отговор", "отговорът", "отговора"), ("резултат", "резултатът"), r"е|са|[-–—]",
     r"верният|правилният|крайният|следователно"),
    Language(("απάντηση",), ("αποτέλεσμα", "λύση"), r"είναι|ισούται με", r"η|το|άρα|επομένως|τελική|σωστή"),
    Language(("תשובה", "התשובה"), ("תוצאה", "התוצאה", "הפתרון"), r"היא|הוא|הינה", r"לכן|ולכן"),
    Language(("الإجابة", "الاجابة", "إجابة", "الجواب", "جواب", "پاسخ"), ("النتيجة", "الناتج", "نتیجه"),
             r"هي|هو|تكون|يكون|يساوي|تساوي|برابر است با|عبارت است از", r"إذن|إذا|لذلك|وبالتالي|پس|بنابراین"),
    Language(("उत्तर", "जवाब", "উত্তর"), ("परिणाम", "नतीजा", "ফলাফল"), r"है|होगा|हैं|হল|হলো",
     r"सही|अंतिम|अतः|इसलिए|সঠিক", spaced=False),
    Language(("คำตอบ",), ("ผลลัพธ์",), r"คือ|เป็น|เท่ากับ", r"ดังนั้น", spaced=False),
    Language(("答案", "答え", "回答", "解答", "正解", "答"), ("结果", "結果", "结论", "結論"),
             r"应该是|應該是|应为|應為|就是|等于|等於|选择|選擇|是|为|為|选|選|は",
             r"最终|最終|最后|最後|正确|正確|标准|最終的な|正しい|的|所以|因此|故|よって|したがって|、|，",
              spaced=False),
    Language(("정답", "답변", "대답", "답"), ("결과",), r"은|는|이|가", r"최종|정확한|따라서|그러므로|올바른| ",
     spaced=False),
)

# A correction begins its sentence. These words do so alone ...
_CORRECTIONS = """
correction|corrected answer|corrected value|erratum|edit:|scratch that|strike that|let me correct|let me fix
i made a mistake|i made an error
i have made a mistake|i made a small mistake|i made a small error|i misread|i miscalculated|i miscounted|i meant
i was wrong|i must correct
i need to correct|on second thought|on second thoughts|my mistake|my bad|that is wrong|that's wrong|that was wrong
this is wrong|that is incorrect
that's incorrect|that is not right|that's not right|that is not correct|that's not correct|this is incorrect
it is wrong|make that
korrektur|berichtigung|das ist falsch|das war falsch|das stimmt nicht|ich habe mich verrechnet|ich habe mich geirrt
ich habe mich vertan
c'est faux|c'est incorrect|je me suis trompé|je me suis trompée|rectification|corrección|rectifico|eso está mal
está mal|me equivoqué
me he equivocado|correzione|mi sono sbagliato|mi sono sbagliata|è sbagliato|correção|me enganei|errei|está errado
correctie|rectificatie
dat is fout|dat klopt niet|исправление|поправка|исправлюсь|я ошибся|я ошиблась|это неверно|это неправильно|korekta
rättelse|rettelse
korrektion|düzeltme|koreksi|ralat|corectare|corecție|διόρθωση|תיקון|تصحيح|सुधार
更正|订正|訂正|纠正|糾正|不对|不對|错了|錯了|我算错|修正|間違え|정정|틀렸
"""
# ... and these together with a word of ``FAULTS`` in the same sentence.
_LEADS = """
no,|no.|no:|no -|no –|no —|wait|hold on|hang on|sorry|actually|however|apologies|i apologize|i apologise|oops|whoops
hmm|pardon|as an ai
moment|halt|stop|nein,|entschuldigung|warte|attends|attendez|non,|désolé|désolée|espera|espere|perdón|lo siento
aspetta|scusa|scusate|desculpe
desculpa|wacht|nee,|подожди|подождите|стоп|нет,|извините|ой|czekaj|chwila|vänta|vent|等等|等一下|抱歉|待って
すみません|잠깐|아니|عفوا
انتظر
"""
FAULTS = re.compile(
    r"\b(?:wrong|incorrect|mistaken?|errors?|not (?:right|correct|true)|should(?:'ve)? (?:be"
    r"|have been|been|read)|meant|miscalculated|misread|miscounted"
    r"|correct(?:ion|ed)?|instead|it is|it's|it was|answer is|fals(?:ch|o|a)|fehler|verrechnet"
    r"|richtig|muss|müsste|sollte|nicht|faux|fausse|erreur|trompée?|devrait|plutôt"
    r"|mal|equivocad[oa]|equivoqué|debería|debe ser|son|sbagliat[oa]|errore|dovrebbe|errad[oa]"
    r"|erro|deveria|fout|onjuist|vergist|moet"
    r"|неверно|неправильно|ошиб\w*|должн\w*|правильн\w*|błąd|źle|powinno|fel|borde|forkert)\b"
    r"|错|錯|不对|不對|应该|應該|间违|間違|違い|正しく|틀렸|아니라|خطأ",
    re.IGNORECASE,
)
# A correction that takes back what was stated even if nothing replaces it.
RETRACTIONS = (
    "scratch that", "strike that", "that is wrong", "that's wrong", "that was wrong", "that is incorrect",
     "that's incorrect", "is not right", "das ist falsch", "das war falsch", "stimmt nicht",
    "c'est faux", "está mal", "è sbagliato", "está errado", "это неверно", "это неправильно", "错了", "錯了",
     "不对", "틀렸",
)
# Labels of the next turn or question of a model that runs on, and tokens of chat templates.
RUN_ON = re.compile(
    r"^[ \t*_#>]{0,8}(?:(?:next|new|another|câu)[ ])?(?P<word>[^\W\d_]{1,14})(?:[ ]?(?:#"
    r"|no\.?|nr\.?|n°)?[ ]?\d{1,4})?[*_]{0,3}[ ]?[:：]",
    re.IGNORECASE | re.MULTILINE,
)
_RUN_ON_WORDS = """
question|q|problem|human|user|exercise|example|instruction|input|task|frage|aufgabe|nutzer|benutzer|pregunta
problema|usuario|ejercicio|exercice|utilisateur|domanda|esercizio|utente|pergunta|exercício|usuário|vraag|opgave
gebruiker|fråga|spørgsmål|spørsmål|kysymys|pytanie|zadanie|otázka|kérdés|soru|pertanyaan|hỏi|вопрос|задача
пользователь|питання|ερώτηση|שאלה|سؤال|السؤال|प्रश्न|คำถาม|问题|問題|问|題目|题目|用户|質問|ユーザー|질문|문제
사용자
"""
RUN_ON_WORDS = frozenset(_RUN_ON_WORDS.replace("\n", "|").strip("|").split("|"))
TEMPLATE_TOKENS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|user|>",
 "<|end|>", "<|start_header_id|>",
                   "<|assistant|>", "</s>", "<eos>", "[INST]", "[/INST]", "<start_of_turn>", "<end_of_turn>")
# fmt: on

# By word: the nouns that contain it, each with its language and whether it is firm; the nouns of languages without
# spaces under UNSPACED. A text is searched only for what its words bring up.
NOUNS: dict[str, list[tuple[str, bool, Language]]] = {}
for _language in LANGUAGES:
    for _is_firm, _nouns in ((True, _language.firm), (False, _language.loose)):
        for _noun in _nouns:
            _word = max(_noun.split(), key=len) if _language.spaced else UNSPACED
            NOUNS.setdefault(_word, []).append((_noun, _is_firm, _language))
# By word: the phrases of corrections that contain it, and whether a word of ``FAULTS`` must follow.
CORRECTIONS: dict[str, list[tuple[str, bool]]] = {}
for _table, _needs_fault in ((_CORRECTIONS, False), (_LEADS, True)):
    for _phrase in _table.replace("\n", "|").strip("|").split("|"):
        _word = (
            UNSPACED
            if re.match("[\u3040-\u9fff\uac00-\ud7af]", _phrase)
            else max(re.findall(r"[^\W\d_]+", _phrase), key=len)
        )
        CORRECTIONS.setdefault(_word, []).append((_phrase, _needs_fault))
