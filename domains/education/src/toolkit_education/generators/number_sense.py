"""Order of operations, multiples of a number, common factors and common multiples.

Exact, bilingual templates; what they have in common is in template.
"""

from __future__ import annotations

from toolkit_education.generators.template import Template

TEMPLATES = (
    Template(
        "order_of_operations/sum_with_product",
        {
            "a": "2..10 2..20 5..50 10..100 20..300",
            "b": "2..5 2..9 3..20 5..40 10..100",
            "c": "2..5 2..9 2..9 3..15 5..30",
        },
        ("product = b * c", "result = a + product"),
        en=(
            "Work out {a} + {b} × {c}.",
            "First multiply: {b} × {c} = {product}.",
            "Then add: {a} + {product} = {result}.",
        ),
        zh=(
            "计算：{a} + {b} × {c}。",
            "先算乘法：{b} × {c} = {product}。",
            "再算加法：{a} + {product} = {result}。",
        ),
    ),
    Template(
        "order_of_operations/brackets",
        {
            "a": "4..10 6..20 10..50 20..100 40..300",
            "b": "2..8 2..15 3..40 5..80 10..250",
            "c": "2..5 2..9 2..9 3..15 5..30",
        },
        ("difference = a - b", "result = difference * c"),
        en=(
            "Work out ({a} - {b}) × {c}.",
            "First the brackets: {a} - {b} = {difference}.",
            "Then multiply: {difference} × {c} = {result}.",
        ),
        zh=(
            "计算：({a} - {b}) × {c}。",
            "先算括号里的：{a} - {b} = {difference}。",
            "再算乘法：{difference} × {c} = {result}。",
        ),
    ),
    Template(
        "order_of_operations/buying",
        {
            "a": "2..10 2..20 3..50 5..100 10..300",
            "b": "2..10 2..20 3..50 5..100 10..300",
            "c": "2..5 2..9 2..12 3..20 5..40",
        },
        ("price = c * a", "total = price + b"),
        en=(
            "[A] buys {c} packs of [things] at ${a} each and one pack of [others] for ${b}. "
            "How much does [A] pay in total?",
            "The [things] cost {c} × {a} = {price} dollars.",
            "In total [A] pays {price} + {b} = {total} dollars.",
        ),
        zh=(
            "[A]买了{c}包[thing]，每包{a}元，还买了一包[other]，花了{b}元。[A]一共付了多少元？",
            "[thing]一共{c} × {a} = {price}元。",
            "[A]一共付了{price} + {b} = {total}元。",
        ),
        units={"a": "money", "b": "money", "price": "money", "total": "money"},
    ),
    Template(
        "times_as_many/other",
        {"a": "2..10 3..20 5..60 10..150 20..400", "b": "2..5 2..6 2..9 3..12 3..15"},
        ("other = a * b",),
        en=(
            "[A] has {a} [things]. [B] has {b} times as many [things] as [A]. How many [things] does [B] have?",
            "[B] has {a} × {b} = {other} [things].",
        ),
        zh=(
            "[A]有{a}[m][thing]，[B]的[thing]数量是[A]的{b}倍。[B]有多少[m][thing]？",
            "[B]有{a} × {b} = {other}[m][thing]。",
        ),
    ),
    Template(
        "times_as_many/total",
        {"a": "2..10 3..20 5..60 10..150 20..400", "b": "2..5 2..6 2..9 3..12 3..15"},
        ("other = a * b", "total = a + other"),
        en=(
            "[A] has {a} [things]. [B] has {b} times as many [things] as [A]. "
            "How many [things] do they have altogether?",
            "[B] has {a} × {b} = {other} [things].",
            "Altogether they have {a} + {other} = {total} [things].",
        ),
        zh=(
            "[A]有{a}[m][thing]，[B]的[thing]数量是[A]的{b}倍。两人一共有多少[m][thing]？",
            "[B]有{a} × {b} = {other}[m][thing]。",
            "两人一共有{a} + {other} = {total}[m][thing]。",
        ),
    ),
    Template(
        "times_as_many/inverse",
        {"a": "4..10 4..20 6..60 20..150 60..400", "b": "2..5 2..6 2..9 3..12 3..15"},
        ("other = a / b",),
        en=(
            "[A] has {a} [things]. That is {b} times as many [things] as [B] has. How many [things] does [B] have?",
            "[B] has {a} ÷ {b} = {other} [things].",
        ),
        zh=(
            "[A]有{a}[m][thing]，是[B]的{b}倍。[B]有多少[m][thing]？",
            "[B]有{a} ÷ {b} = {other}[m][thing]。",
        ),
    ),
    Template(
        "greatest_common_factor/parcels",
        {"a": "6..18 8..30 12..60 24..100 60..240", "b": "4..16 4..30 6..60 8..100 12..240"},
        ("most = gcd(a, b)",),
        en=(
            "[A] packs {a} [things] and {b} [others] into equal parcels, and nothing is left over. "
            "What is the largest number of parcels?",
            "The greatest common factor of {a} and {b} is {most}, so there are {most} parcels.",
        ),
        zh=(
            "[A]把{a}[m][thing]和{b}[om][other]分装成同样的礼包，没有剩余。最多能装多少份？",
            "{a}和{b}的最大公因数是{most}，所以最多能装{most}份。",
        ),
        must=("positive a - b", "positive b - most"),
    ),
    Template(
        "greatest_common_factor/pieces",
        {"a": "6..18 8..30 12..60 24..100 60..240", "b": "4..16 4..30 6..60 8..100 12..240"},
        ("longest = gcd(a, b)",),
        en=(
            "One [strip] is {a} cm long and another [strip] is {b} cm long. Both are cut into equal pieces, as long as "
            "possible, and nothing is left over. How long is each piece?",
            "The greatest common factor of {a} and {b} is {longest}, so each piece is {longest} cm long.",
        ),
        zh=(
            "两根[strip]分别长{a}厘米和{b}厘米，要剪成同样长的小段，没有剩余。每小段最长是多少厘米？",
            "{a}和{b}的最大公因数是{longest}，所以每小段最长是{longest}厘米。",
        ),
        units={"a": "cm", "b": "cm", "longest": "cm"},
        must=("positive a - b", "positive b - longest"),
    ),
    Template(
        "least_common_multiple/bells",
        {"a": "2..7 2..11 3..14 4..23 6..35", "b": "3..8 3..12 4..15 5..24 7..36"},
        ("together = lcm(a, b)",),
        en=(
            "At [place] one bell rings every {a} minutes and another bell rings every {b} minutes. They ring together "
            "now. After how many minutes do they next ring together?",
            "The least common multiple of {a} and {b} is {together}, so they ring together after {together} minutes.",
        ),
        zh=(
            "[place]里甲铃每{a}分钟响一次，乙铃每{b}分钟响一次。现在同时响，至少再过多少分钟又同时响？",
            "{a}和{b}的最小公倍数是{together}，所以至少再过{together}分钟。",
        ),
        units={"a": "minute", "b": "minute", "together": "minute"},
        must=("positive b - a", "positive together - b"),
    ),
    Template(
        "least_common_multiple/packs",
        {"a": "2..7 2..11 3..14 4..23 6..35", "b": "3..8 3..12 4..15 5..24 7..36"},
        ("fewest = lcm(a, b)",),
        en=(
            "[Things] come in packs of {a} and [others] come in packs of {b}. [A] wants the same number of both. "
            "What is the smallest number of [things] that [A] can buy?",
            "The least common multiple of {a} and {b} is {fewest}, so [A] buys {fewest} [things].",
        ),
        zh=(
            "[thing]每包{a}[m]，[other]每包{b}[om]。[A]想让两种的数量相同，至少要买多少[m][thing]？",
            "{a}和{b}的最小公倍数是{fewest}，所以至少要买{fewest}[m][thing]。",
        ),
        must=("positive b - a", "positive fewest - b"),
    ),
)
