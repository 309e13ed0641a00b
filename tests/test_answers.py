"Answers of mathematics: right ones however they are written, wrong ones however they are dressed, all in bounded time."
import time

import pytest

import motif_repro.tasks.symbolic as symbolic
from motif_repro.tasks.answers import check_answer, final_answer, normalised
from motif_repro.tasks.math import JUNK

# the right answer ¦ answers that mean the same ¦ answers that don't; ┊ separates them
TABLE = r"""
fractions and decimals
\frac{1}{2} ¦ 1/2 ┊ 0.5 ┊ .5 ┊ \dfrac12 ┊ \tfrac{1}{2} ┊ \frac{2}{4} ┊ ½ ┊ $\frac{1}{2}$ ┊ \left(\frac{1}{2}\right) ┊ 0.50 ┊ 2^{-1} ┊ x = \frac{1}{2} ┊ \frac{-1}{-2} ┊ 50\% ¦ 2 ┊ \frac{2}{1} ┊ 1/20 ┊ -\frac{1}{2} ┊ 0.51 ┊ 0.5\% ┊ 1:2 ┊ \frac{1}{2}, \frac{1}{3} ┊ 12 ┊ \frac{1}{2}x ┊ half ┊ 5\%
-\frac{3}{4} ¦ \frac{-3}{4} ┊ \frac{3}{-4} ┊ -0.75 ┊ −3/4 ┊ - 3/4 ¦ \frac{3}{4} ┊ 0.75 ┊ -\frac{4}{3} ┊ \pm\frac{3}{4}
\frac{1}{3} ¦ 0.333333 ┊ 0.3333333333 ┊ 0.\overline{3} ┊ 0.\bar{3} ┊ 3^{-1} ┊ \frac{\frac{1}{3}}{1} ¦ 0.333 ┊ 0.33 ┊ 0.3 ┊ 0.333334 ┊ 0.33333 ┊ 3 ┊ 0.3333323
3.14 ¦ 3.14 ┊ 3.140 ┊ 157/50 ¦ \pi ┊ 3.1 ┊ 3.1415 ┊ 3.15 ┊ 3,14 ┊ 314
\frac{\pi}{6} ¦ \frac{1}{6}\pi ┊ π/6 ┊ pi/6 ┊ 0.523599 ┊ \frac{2\pi}{12} ¦ 0.52 ┊ \frac{\pi}{3} ┊ \frac{6}{\pi} ┊ 3.14159/6 ┊ \frac{p}{6}
\frac{3}{2} ¦ 1\frac{1}{2} ┊ 1 1/2 ┊ 1.5 ┊ 1 \frac{1}{2} ┊ 3/2 ¦ \frac{11}{2} ┊ 11/2 ┊ 1\cdot\frac{1}{2} ┊ \frac{1}{2} ┊ 1, 1/2
0.125 ¦ \frac{1}{8} ┊ 2^{-3} ┊ 12.5\% ¦ 0.1250001 ┊ 0.13 ┊ 0.12 ┊ \frac{1}{9}
whole numbers
1234 ¦ 1,234 ┊ 1{,}234 ┊ 1,\!234 ┊ 1\,234 ┊ 1 234 ┊ 1234.0 ┊ +1234 ┊ 1.234\times10^3 ┊ 1.234 \cdot 10^{3} ┊ 1.234e3 ┊ 01234 ┊ 1234. ¦ 1.234 ┊ 1, 234 ┊ 12,34 ┊ 1234.5 ┊ -1234 ┊ 1.234\times10^4 ┊ 4321 ┊ 12345
300000 ¦ 3\times 10^5 ┊ 3 \times 10^{5} ┊ 3e5 ┊ 3·10⁵ ┊ 300,000 ¦ 3\times 10^4 ┊ 30^5 ┊ 3\times 105 ┊ 3 + 10^5 ┊ 3e-5
1024 ¦ 2^{10} ┊ 2^10 ┊ 2**10 ┊ 4^5 ┊ 1000 + 24 ¦ 2^{11} ┊ 210 ┊ 2\cdot 10 ┊ 1024! ┊ 2^{1}0
7 ¦ 7 ┊ x = 7 ┊ x=7. ┊ 7.0 ┊ 14/2 ┊ \sqrt{49} ┊ 3+4 ┊ x = 3 + 4 = 7 ┊ f(2)=7 ┊ |{-7}| ┊ \text{7} ┊ \mathbf{7} ¦ x=3=7 ┊ 3=7 ┊ 7=7=8 ┊ x=7=x+1 ┊ 7, 8 ┊ 7 or 8 ┊ 8 or 7 ┊ \{7, 8\} ┊ not 7 ┊ 77 ┊ 7^7 ┊ 7i ┊ x>7 ┊ x \ne 7 ┊ [7, 7] ┊ -7 ┊ \frac{7}{} ┊ 7+ ┊ ((7 ┊ \pm 7 ┊ 7x ┊ 7 million ┊ 7 or so ┊ about 7 ┊ 7!
-3 ¦ −3 ┊ – 3 ┊ (-3) ┊ x = -3 ┊ -\frac{6}{2} ┊ \sqrt[3]{-27} ┊ 1-4 ¦ 3 ┊ --3 ┊ 3- ┊ \sqrt{9} ┊ \pm 3 ┊ -3i ┊ |-3|
6 ¦ 2(3) ┊ (2)(3) ┊ 2 \cdot 3 ┊ 2 * 3 ┊ 2 \times 3 ┊ 3! ┊ \binom{4}{2} ¦ 5 ┊ 2 3 ┊ 23 ┊ 2, 3 ┊ 2x3
5 ¦ 5 ┊ \sqrt{25} ¦ 2(3) ┊ 2 3 ┊ I would guess 3 or maybe 5 ┊ I think it is 5 ┊ 4 or 5 ┊ five ┊ 5 ± 1 ┊ 5x^0y
roots and formulas
\sqrt{12} ¦ 2\sqrt{3} ┊ 2√3 ┊ 2\sqrt3 ┊ \sqrt{4}\sqrt{3} ┊ 12^{1/2} ┊ 12^{0.5} ┊ \frac{6}{\sqrt{3}} ┊ 3.464102 ┊ 2 sqrt(3) ¦ 3\sqrt{2} ┊ 3.46 ┊ \sqrt{2}+10^{-20} ┊ 3.464101 ┊ 2\sqrt{3}+10^{-50} ┊ -2\sqrt{3} ┊ \sqrt{1}2 ┊ \sqrt[3]{12}
x^2+2x+1 ¦ (x+1)^2 ┊ 1 + 2x + x^2 ┊ x^{2} + 2 x + 1 ┊ (x+1)(x+1) ┊ y = (x+1)^2 ┊ x(x+2)+1 ¦ (x+1)^3 ┊ (X+1)^2 ┊ (y+1)^2 ┊ x^2+1 ┊ x^2+2x+1=0 ┊ 4 ┊ x2+2x+1
|x| ¦ \sqrt{x^2} ┊ \left|x\right| ┊ |-x| ¦ x ┊ -x ┊ x^2
2^{n-1} ¦ \frac{2^n}{2} ┊ 2^n \cdot 2^{-1} ┊ \frac{1}{2} \cdot 2^{n} ¦ 2^{n} - 1 ┊ 2^n-1 ┊ 2^{n+1} ┊ 2n-1 ┊ 2^{m-1}
p - q ¦ -q + p ┊ p-q ¦ q - p ┊ p - r ┊ pq
\tan 10^\circ ¦ \cot 80^\circ ┊ \tan(10^\circ) ¦ \tan 10 ┊ 10^\circ ┊ \tan 20^\circ
\log_2(6) - 1 ¦ \log_2 3 ┊ \frac{\ln 3}{\ln 2} ¦ 2(6)-1 ┊ \log(3)
e^{x+y} ¦ e^x e^y ┊ \exp(x+y) ¦ e^x + e^y ┊ e^{xy}
\ln 4 ¦ 2\ln 2 ┊ \ln(4) ┊ 2 ln(2) ¦ \ln 2 ┊ \log 4 ┊ 4
3+4i ¦ 4i+3 ┊ 3 + 4 i ¦ 3-4i ┊ 4+3i ┊ 7i ┊ 5
-1 ¦ e^{i\pi} ┊ i^2 ┊ \cos\pi ¦ 1 ┊ i ┊ e^\pi
f'(x) ¦ f'(x) ¦ f(x) ┊ fx ┊ xf
2xy ¦ 2yx ┊ 2x \cdot y ┊ x\cdot 2y ¦ 2x+y ┊ xy ┊ 2x^y
\frac{1}{8} ¦ -\cos(\frac{\pi}{7})\cos(\frac{2\pi}{7})\cos(\frac{4\pi}{7}) ┊ \sin^2(30^\circ)/2 ¦ \cos(\frac{\pi}{7})\cos(\frac{2\pi}{7})\cos(\frac{4\pi}{7})
\infty ¦ ∞ ┊ +\infty ┊ infinity ┊ \text{infinity} ¦ -\infty ┊ 0 ┊ \frac{1}{0} ┊ 10^{10}
percentages
40\% ¦ 40% ┊ 40 ┊ 0.4 ┊ \frac{2}{5} ┊ 40 percent ┊ 40.0\% ┊ 40\text{ percent} ¦ 0.4\% ┊ 4 ┊ 4\% ┊ 400\% ┊ 0.04 ┊ 60\% ┊ 40\%\% ┊ 4000\%
0.4 ¦ 40\% ┊ 0.4 ¦ 0.4\% ┊ 40 ┊ 4\%
0.4\% ¦ 0.4\% ┊ 0.004 ┊ \frac{1}{250} ¦ 0.4 ┊ 40\% ┊ 4
150 ¦ 150\% ┊ 150 ┊ 15000\% ¦ 1.5 ┊ 1500\% ┊ 1.5\%
units
5\text{ cm} ¦ 5 ┊ 5 cm ┊ 5\,\text{cm} ┊ 5\mathrm{cm} ┊ 5.0 cm ┊ 50 mm ┊ 0.05 m ┊ 5cm ┊ 5 centimeters ┊ 5 \text{ centimetres} ¦ 5 m ┊ 5 mm ┊ 50 cm ┊ 5\text{ cm}^2 ┊ 5 inches ┊ 5\% ┊ 5 seconds ┊ cm ┊ 6 cm ┊ 5 square cm
25\text{ cm}^2 ¦ 25 cm^2 ┊ 25\text{ cm}^{2} ┊ 25 square centimeters ┊ 25 sq cm ┊ 25 ┊ 0.0025\text{ m}^2 ¦ 25 cm ┊ 25 cm^3 ┊ 25^2 ┊ 25\text{ m}^2 ┊ 0.25\text{ m}^2 ┊ 625
60 km/h ¦ 60 \text{ km/h} ┊ 60 kilometers per hour ┊ 60 ¦ 60 km ┊ 60 m/s ┊ 60 mph ┊ 60 km/s
30^\circ ¦ 30° ┊ 30 degrees ┊ 30 ┊ 30^{\circ} ┊ 30\text{ degrees} ¦ 60^\circ ┊ 30\% ┊ \frac{\pi}{3} ┊ 3^\circ
\$5 ¦ 5 ┊ $5 ┊ \$5.00 ┊ 5 dollars ┊ 500 cents ┊ \text{\$}5 ¦ \$50 ┊ 5 cents ┊ €5 ┊ 0.05 ┊ 5\%
42 ¦ 42 apples ┊ 42 \text{ apples} ┊ 42 units ┊ 42 cm ¦ 42 million ┊ 42 hundred ┊ 42 or 43 ┊ 42 not ┊ 42 dozen ┊ 42 squared ┊ apples 42 ┊ 42 plus one
12 apples ¦ 12 ┊ 12 apples ┊ 12 Apples ¦ 12 pears ┊ 13 apples ┊ apples
sets and lists
\{1,2\} ¦ \{2,1\} ┊ {1, 2} ┊ 1, 2 ┊ 2,1 ┊ 1 and 2 ┊ 1 \text{ or } 2 ┊ x = 1, x = 2 ┊ x=1 \text{ or } x=2 ┊ \left\{1, 2\right\} ┊ \{1.0, \frac{4}{2}\} ┊ \{1,2,2\} ┊ x \in \{1, 2\} ¦ (1,2) ┊ [1,2] ┊ \{1\} ┊ \{1,2,3\} ┊ 1 ┊ 2 ┊ \{1;3\} ┊ 12 ┊ 1,1 ┊ 1+2 ┊ \{1,,2\} ┊ 1 < 2 ┊ \{\} ┊ {1, 2, x} ┊ \{(1,2)\}
\pm 2 ¦ 2, -2 ┊ -2, 2 ┊ \{-2, 2\} ┊ x = \pm 2 ┊ x = 2 or x = -2 ┊ ±2 ┊ \mp 2 ¦ 2 ┊ -2 ┊ \{2\} ┊ (2,-2) ┊ 2, 2 ┊ \pm 4 ┊ 0
1 \pm \sqrt{2} ¦ 1+\sqrt{2}, 1-\sqrt{2} ┊ \{1-\sqrt2, 1+\sqrt2\} ┊ x = 1 ± √2 ¦ 1+\sqrt{2} ┊ \pm(1+\sqrt{2}) ┊ 1, \sqrt{2} ┊ 1 \pm 2
2, 2 ¦ 2,2 ¦ 2 ┊ 2, 2, 2 ┊ 22
100, 200 ¦ 100,200 ┊ 200, 100 ¦ 100 ┊ 300 ┊ 100200 ┊ (100, 200)
\emptyset ¦ \{\} ┊ \varnothing ┊ ∅ ¦ 0 ┊ \{0\} ┊ \{\emptyset\} ┊ () ┊ []
5 ¦ \{5\} ¦ \{5, 5, 6\} ┊ [5] ┊ (5, 5) ┊ \{5, 6\}
tuples and intervals
(1,2) ¦ (1, 2) ┊ \left(1, 2\right) ┊ (1.0, \frac{4}{2}) ┊ \left( \frac{2}{2},\, 2 \right) ┊ (x, y) = (1, 2) ┊ \langle 1, 2 \rangle ¦ (2,1) ┊ \{1,2\} ┊ [1,2] ┊ [1,2) ┊ (1,2] ┊ 1,2 ┊ 2,1 ┊ (1,2,3) ┊ (1,3) ┊ (12) ┊ (1;3) ┊ ((1,2)) , 3 ┊ 1:2 ┊ (1,2
(0,1] ¦ (0, 1] ┊ 0 < x \le 1 ┊ 0<x\leq1 ┊ x \in (0,1] ┊ \left(0,1\right] ┊ 1 \ge x > 0 ┊ (0, \frac{2}{2}] ┊ \{x : 0 < x \le 1\} ¦ (0,1) ┊ [0,1] ┊ [0,1) ┊ (1,0] ┊ 0 < x < 1 ┊ \{0,1\} ┊ 0,1 ┊ (0,2] ┊ 0 > x \ge 1
[0,1] ¦ [0, 1.0] ┊ 0 \le x \le 1 ¦ (0,1) ┊ \{0,1\} ┊ (0,1] ┊ 0,1 ┊ [1,0] ┊ \begin{pmatrix}0 & 1\end{pmatrix}
(-\infty, 3) ¦ x < 3 ┊ 3 > x ┊ (-∞, 3) ┊ (-infinity, 3) ¦ x \le 3 ┊ (\infty, 3) ┊ (-\infty, 3] ┊ x > 3 ┊ 3 ┊ (3, -\infty)
(-\infty,1)\cup(2,\infty) ¦ (2,\infty) \cup (-\infty,1) ┊ x<1 or x>2 ┊ (-∞, 1) ∪ (2, ∞) ┊ x < 1 \text{ or } 2 < x ¦ (-\infty,1)\cap(2,\infty) ┊ (-\infty,1]\cup(2,\infty) ┊ x<1 and x>2 ┊ (-\infty,1) ┊ (-\infty,1),(2,\infty) ┊ (1,2)
x \ge 3 ¦ 3 \le x ┊ x≥3 ┊ [3,\infty) ┊ 2x \ge 6 ┊ x - 3 \ge 0 ┊ x >= 3 ¦ x > 3 ┊ x \le 3 ┊ x = 3 ┊ 3 ┊ y \ge 3 ┊ -x \ge -3 ┊ 3 \ge x ┊ (3,\infty)
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix} ¦ \begin{bmatrix}1&2\\3&4\end{bmatrix} ┊ \left(\begin{matrix} 1 & \frac{4}{2} \\ 3 & 4 \end{matrix}\right) ¦ \begin{pmatrix} 1 & 3 \\ 2 & 4 \end{pmatrix} ┊ \begin{pmatrix} 1 & 2 & 3 & 4 \end{pmatrix} ┊ -2 ┊ (1,2,3,4) ┊ \begin{pmatrix} 1 & 2 \\ 3 \end{pmatrix}
equations
x = 3 ¦ 3 ┊ x=3 ┊ 3 = x ┊ x = \frac{6}{2} = 3 ┊ 2x = 6 ┊ x - 3 = 0 ¦ y = 3 ┊ x = 4 ┊ x \ge 3 ┊ x = 3 = 4 ┊ 0 = 0 ┊ x = x ┊ 3 = 3y ┊ x^2 = 9
y = 2x + 1 ¦ 2x+1 ┊ y=1+2x ┊ 2x - y + 1 = 0 ┊ y - 1 = 2x ┊ 2y = 4x+2 ¦ y = 2x - 1 ┊ x = 2y + 1 ┊ 2x ┊ y = 2x ┊ 2x+1 = 0 ┊ 0 = 0 ┊ y = y
x^2 + y^2 = 1 ¦ y^2 + x^2 = 1 ┊ x^2+y^2-1=0 ┊ 1 = x^2+y^2 ¦ x^2+y^2=2 ┊ 1 ┊ x+y=1 ┊ x^2-y^2=1 ┊ 1 = 1
x = 1, y = 2 ¦ y = 2, x = 1 ┊ x=1; y=2 ┊ x = 1 \text{ and } y = 2 ¦ x = 2, y = 1 ┊ (2, 1) ┊ x = 1 ┊ x = 1, x = 2
words and choices
\text{even} ¦ even ┊ Even ┊ \text{ even } ┊ \mathrm{even} ¦ odd ┊ neve ┊ even or odd ┊ uneven ┊ not even ┊ e
\text{Yes} ¦ yes ┊ Yes. ┊ YES ¦ No ┊ yes and no ┊ sey
cat ¦ cat ┊ \text{cat} ¦ act ┊ tac ┊ c \cdot a \cdot t ┊ cats
B ¦ (B) ┊ \text{B} ┊ \textbf{(B)} ┊ B. 12 ┊ (B) 12 ┊ b ┊ (b) ┊ B: the second ┊ B) ¦ A ┊ A or B ┊ A, B ┊ (A)(B) ┊ AB ┊ BB ┊ D ┊ A. B ┊ B. A
\text{(C)} ¦ C ┊ (C) ┊ \text{C} ¦ (D) ┊ c+1 ┊ (A) (C)
ratios and bases
3:4 ¦ 3 : 4 ┊ 3:4 ¦ 4:3 ┊ 3:5 ┊ 34 ┊ 7 ┊ 3,4 ┊ (3,4)
101_2 ¦ 101_{2} ┊ 101 ┊ 101_2 ¦ 101_3 ┊ 5 ┊ 110_2 ┊ 101_{10} ┊ 1012
101 ¦ 101 ¦ 101_2 ┊ 101_3
right answers nobody can read
\text{see figure}\over ¦ \text{see figure}\over ¦ figure ┊ \frac{1}{2} ┊ 0
x \mapsto x^2 ¦ x \mapsto x^2 ¦ x^2 ┊ x
"""


def table():
    reason = ''
    for line in filter(None, TABLE.splitlines()):
        if '¦' not in line: reason = line
        else:
            gold, right, wrong = line.split('¦')
            for answers, earns in ((right, True), (wrong, False)):
                for given in answers.split('┊'): yield reason, gold.strip(), given.strip(), earns

@pytest.mark.parametrize('reason', dict.fromkeys(row[0] for row in table()))
def test_right_and_wrong(reason):
    rows = [row for row in table() if row[0] == reason]
    mistakes = [(gold, given, verdict) for _, gold, given, earns in rows
                if (verdict := check_answer(rf'<think>…</think>It is \boxed{{{given}}}', gold).verdict) != ('correct' if earns else 'wrong')]
    assert not mistakes

def test_the_table_is_large(): assert len([row for row in table() if not row[3]]) >= 200 and len(dict.fromkeys(row[1] for row in table())) > 50

def test_no_answer_pays_for_two_questions():
    "Each right answer of the table against every other question that isn't among its own spellings."
    golds = list(dict.fromkeys(row[1] for row in table()))
    known = {(gold, given) for _, gold, given, earns in table() if earns}
    equal = {frozenset(pair) for pair in [('3:4', '3 : 4'), ('5', '$5'), ('7', 'x = 7')]}
    paid = [(gold, given) for gold in golds for given in golds if gold != given and (gold, given) not in known and (given, gold) not in known
            and frozenset((gold, given)) not in equal and check_answer(rf'\boxed{{{given}}}', gold).reward]
    assert set(paid) <= {('5', r'5\text{ cm}'), ('5', r'\$5'), (r'\text{even}', 'even'), ('12 apples', '12')}, paid


@pytest.mark.parametrize('response,verdict', [
    ('<think>7</think>7', 'correct'), ('7', 'correct'), ('<think>no</think> **7** ', 'correct'), ('…\n#### 7', 'correct'), ('The answer is 7.', 'correct'),
    ('Final answer: $7$.', 'correct'), ('The final answer is: **7**', 'correct'), ('Thus:\n7', 'correct'), ('The answer is:\n7', 'correct'), ('**Answer:** 7', 'correct'), (r'\boxed{3} then \boxed{7}', 'correct'),
    (r'\fbox{7}', 'correct'), (r'\boxed 7', 'correct'), (r'\boxed{\boxed{7}}', 'correct'), ('</think>7', 'correct'), ('answer: x = 7', 'correct'),
    (r'\boxed{7} or \boxed{8}', 'wrong'), (r'\boxed{7, 8}', 'wrong'), ('I think it is 7', 'wrong'), ('7 or 8', 'wrong'), ('It is 7\nI am sure', 'wrong'),
    ('The answer is 7 or 8', 'wrong'), ('The answer is not 7', 'wrong'), ('The answer is 7. The answer is 8.', 'wrong'), ('1 2 3 4 5 6 7', 'wrong'),
    (r'<think>\boxed{7}</think>8', 'wrong'), (r'\boxed{8} (or 7)', 'wrong'), ('#### 7\n#### 8', 'wrong'), ('7 7', 'wrong'), ('77', 'wrong'), ('"7" "8"', 'wrong'),
    ('<think>7', 'no_answer'), (r'<think>\boxed{7}', 'no_answer'), ('<think>a</think>7<think>', 'no_answer'), ('', 'no_answer'), (' \n ', 'no_answer'),
    (r'\boxed{}', 'no_answer'), (r'\boxed{7', 'no_answer'), (r'7 \boxed{ }', 'no_answer'), ('<think>7</think>', 'no_answer'), (r'7 so \boxed{\frac{7}{1}', 'no_answer')])
def test_where_the_answer_stands(response, verdict): assert check_answer(response, '7').verdict == verdict

def test_junk_earns_nothing():
    golds = [gold for gold in dict.fromkeys(row[1] for row in table())]
    junk = [*JUNK, 'Answer', 'x', 'null', 'nan', 'inf', '∞', '{}', '()', '[,]', '=', 'x=', '\\', '$', '$$', '\\frac', '%', '!', '0/0', '\x00', '\ud800', '😀', '<', 'i', 'e']
    paid = [(gold, text) for gold in golds for text in junk if check_answer(text, gold).reward not in (0,) and text != gold]
    assert set(paid) <= {(r'\infty', 'inf'), (r'\infty', '∞'), (r'\emptyset', '{}')}, paid


HEDGES = ['not {}', 'no {}', '{} not', 'to {}', 'a {}', 'xyz {}', 'n{}', '{}n', 'x{}', '{}no', '(not {})', '(x){}', r'x\cdot {}', '{}x', r'\theta {}', r'{}\cdot\text{{no}}',
          r'\not {}', '≠{}', '!{}', '¬{}', '{} {}', '{},', ',{}', '{}:', '@{}', '{}?', '{}+', '{} or 13', '13 or {}', '{} and 13', '{} million', 'I say {}', '{} if x', '{}=13', '13={}',
          'x={}=13', r'{} \ne 13', '<{}', '>{}', '{}<x', r'\text{{not }}{}', r'{}\text{{ or 7}}', '{};13', '({},{})', '[{}]', '{}_3', '{{}}{}13', '{}...13', '{} - 13', '13/{}']

@pytest.mark.parametrize('gold', ['0', '1', '5', '-3', '42', '0.5', r'\frac{1}{2}'])
def test_a_right_number_in_wrong_company(gold):
    "Zero most of all: whatever stands beside it is a product, and equal to it."
    assert not [given for hedge in HEDGES if check_answer(given := hedge.format(gold, gold), gold).reward]



BOMBS = [r'9^{9^{9^9}}', r'(10^9)!', '10^{10^{10}}', '9**9**9**9', r'\frac{1}{9^{9^{9}}}', '1e999999999', '9'*900, '9'*5000, '1' + '0'*10**6, '7' + '!'*200, '2^{2^{2^{2^{2^{2}}}}}',
         '(' * 10**5, '('*400 + '7' + ')'*400, '\\boxed{' * 20000, '{' * 900, r'\frac{' * 200, '\\sqrt{'*150 + '7' + '}'*150, r'\{x:'*200, 'x\\in'*200, '1,'*400, '1,'*10**5, '7 '*400,
         '-'*900 + '7', '7' + '+0'*400, '7' + '-'*400, 'a '*400, '7 ' + 'a '*400, '7 ' + 'a-'*400, 'x='*400 + '7', '7='*400 + '8', '<'*500, r'\pm '*300 + '7', '±1'*12, '^'*800,
         '1/'*400 + '1', '0.' + '3'*10**5, r'0.\overline{' + '3'*900 + '}', 'answer is ' * 10**5, '#### ' * 10**5, '\\frac' * 10**5, '$'*10**6, ' '*10**6, '<think>'*10**5, '</think>'*10**5 + '8',
         '(x+y+z+1)^{500}', r'\int_0^1 ' * 30 + 'x dx', r'\sin'*100 + 'x', 'a_{' * 100, r'\begin{pmatrix}' * 50, '1&'*400, r'\begin{pmatrix}' + '1&'*400 + r'\end{pmatrix}', '1:'*400 + '1']
SLOW_BOMBS = [r'\binom{10^9}{5\cdot 10^8}', r'\sum_{k=1}^{10^9}\sin(k)']   # nothing in the text tells: these cost the limit

FLOODS = ['answer:' + ' '*20_000 + '::', '####' + '\t'*20_000 + ':\n:', ('answer is' + '\n'*200 + ':')*100, '^' + ' '*9000, 'answer:'*20_000]

@pytest.mark.parametrize('flood', FLOODS, ids=lambda flood: repr(flood[:9]))
def test_a_flood_costs_its_length(flood):
    "In this process, where nothing ends it."
    start = time.process_time()
    normalised(final_answer(flood)[:10_000])
    assert time.process_time() - start < 1

def test_bombs_cost_little_and_earn_nothing():
    slowest = {}
    for bomb in BOMBS:
        for response in (bomb, rf'\boxed{{{bomb}}}'):
            start = time.perf_counter()
            verdict = check_answer(response, '7')
            slowest[bomb[:30]] = time.perf_counter() - start
            assert verdict.reward == 0, (bomb[:60], verdict)
    assert sum(slowest.values()) < 20, slowest

@pytest.mark.parametrize('bomb', SLOW_BOMBS)
def test_what_never_ends_is_a_timeout_and_the_next_one_is_checked(bomb):
    assert check_answer(rf'\boxed{{{bomb}}}', '7', limit_s=1).verdict == 'timeout'
    assert check_answer(r'\boxed{\sqrt{49}}', '7').verdict == 'correct'

def test_a_right_answer_that_never_ends_is_compared_as_text():
    gold = SLOW_BOMBS[0]
    assert [check_answer(rf'\boxed{{{given}}}', gold, limit_s=1).verdict for given in (gold, '7')] == ['correct', 'wrong']


def test_a_checker_that_fails_gives_no_reward(monkeypatch):
    symbolic.stop_workers()
    monkeypatch.setattr(symbolic.sys, 'executable', '/bin/false')
    verdict = check_answer(r'\boxed{\sqrt{49}}', '7')
    assert (verdict.verdict, verdict.reward) == ('verifier_error', None) and 'CheckerFailed' in verdict.detail
    assert check_answer('7', '7').reward == 1   # plain numbers need no worker

def test_a_worker_that_is_killed_is_replaced():
    assert check_answer(r'\boxed{\sqrt{49}}', '7').reward == 1
    for worker in symbolic._idle: worker.process.kill()
    assert check_answer(r'\boxed{\sqrt{64}}', '8').reward == 1

def test_threads_share_workers_and_leave_none_behind():
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(3) as pool: rewards = list(pool.map(lambda n: check_answer(rf'\boxed{{\sqrt{{{n*n}}}}}', str(n)).reward, range(1, 40)))
    assert set(rewards) == {1.0} and 1 <= len(symbolic._idle) <= 3
    processes = [worker.process for worker in symbolic._idle]
    symbolic.stop_workers()
    assert all(p.poll() is not None for p in processes)

def test_no_right_answer_is_an_invalid_row(): assert check_answer('7', ' ').verdict == 'invalid_row'
