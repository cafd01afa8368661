"""Spellings of mathematical answers beyond the table in docs/answers.md."""

from collections.abc import Iterator

import pytest

from distil_core.problems.base import Problem
from distil_core.verifiers import VERIFIERS
from distil_core.verifiers.base import Verifier

# Reference, response, verdict.
ROWS = r"""
18 ## \boxed{18\%} ## correct
18 ## \boxed{17.999999999} ## wrong
18 ## \boxed{\text{The answer is } 18} ## correct
18 ## \boxed{\boxed{18}} ## correct
18 ## $$\boxed{18}$$ ## correct
18 ## \boxed{\$18.00} ## correct
18 ## \boxed{18\text{ or so}} ## wrong
18 ## \boxed{18\text{, I think}} ## wrong
18 ## \boxed{18 \neq 17} ## wrong
18 ## \boxed{18 < 19} ## wrong
18 ## \boxed{17 < x < 19} ## wrong
18 ## \boxed{\geq 18} ## wrong
18 ## \boxed{\sim 18} ## wrong
18 ## \boxed{1, 2, \ldots, 18} ## wrong
18 ## \boxed{18, 18} ## wrong
18 ## \boxed{(18)} ## correct
18 ## \boxed{[18]} ## correct
18 ## \boxed{18^1} ## wrong
18 ## \boxed{\frac{36}{2}} ## correct
18 ## \boxed{20-2} ## wrong
18 ## \boxed{x} ## wrong
18 ## \boxed{18x} ## wrong
18 ## \boxed{18i} ## wrong
18 ## \boxed{18\pi} ## wrong
18 ## \boxed{18!} ## wrong
18 ## \boxed{\sqrt{324}} ## wrong
18 ## \boxed{\int_0^6 x\,dx} ## wrong
18 ## \boxed{\lim_{x\to 18} x} ## wrong
18 ## \boxed{\binom{18}{1}} ## wrong
18 ## \boxed{18.0\ldots} ## wrong
18 ## \boxed{18~\text{cm}} ## correct
18 ## \boxed{٨١} ## wrong
18 ## \boxed{١٨} ## correct
18 ## \boxed{18\,\mathrm{km/h}} ## correct
\sqrt{2} ## \boxed{\sqrt2} ## correct
\sqrt{2} ## \boxed{2^{1/2}} ## correct
\sqrt{2} ## \boxed{2^{0.5}} ## correct
\sqrt{2} ## \boxed{1.414} ## wrong
\frac{1}{7} ## \boxed{0.\overline{142857}} ## correct
0.1\overline{6} ## \boxed{\frac{1}{6}} ## correct
0.\dot{3} ## \boxed{1/3} ## correct
2\frac{3}{4} ## \boxed{\frac{11}{4}} ## correct
2\frac{3}{4} ## \boxed{2.75} ## correct
2\frac{3}{4} ## \boxed{2\cdot\frac{3}{4}} ## wrong
-2\frac{1}{2} ## \boxed{-2.5} ## correct
-1½ ## \boxed{-1.5} ## correct
x^{3} ## \boxed{x³} ## correct
x_1+x_2 ## \boxed{x₁+x₂} ## correct
10^{-3} ## \boxed{10⁻³} ## correct
10^{-3} ## \boxed{0.001} ## correct
a \ne b ## \boxed{a ≠ b} ## correct
\{1,2,3\} ## \boxed{(1,2,3)} ## wrong
(1,2,3) ## \boxed{\{1,2,3\}} ## wrong
[0,1] ## \boxed{\{0,1\}} ## wrong
[0,1] ## \boxed{0 \le x \le 1} ## correct
[0,1] ## \boxed{(0,1)} ## wrong
(0,\infty) ## \boxed{x > 0} ## correct
(0,\infty) ## \boxed{x \ge 0} ## wrong
x>0 ## \boxed{0<x} ## correct
x<-1 \text{ or } x>1 ## \boxed{(-\infty,-1)\cup(1,\infty)} ## correct
x^2>1 ## \boxed{x<-1 \text{ or } x>1} ## correct
|x|<2 ## \boxed{(-2,2)} ## correct
-3 \le x < 4 ## \boxed{[-3,4)} ## correct
\varnothing ## \boxed{\emptyset} ## correct
\varnothing ## \boxed{\{\}} ## correct
50\% ## \boxed{\frac{1}{2}} ## correct
50\% ## \boxed{0.5} ## correct
\frac{1}{2} ## \boxed{50\%} ## correct
60^\circ ## \boxed{60°} ## correct
60^\circ ## \boxed{60\text{ deg}} ## correct
60^\circ ## \boxed{61°} ## wrong
90° ## \boxed{\frac{\pi}{2}} ## wrong
3:45 ## \boxed{3:45 \text{ PM}} ## correct
3:45 \text{ PM} ## \boxed{15:45} ## correct
3:45 \text{ PM} ## \boxed{3:46 \text{ PM}} ## wrong
\infty ## \boxed{∞} ## correct
-\infty ## \boxed{−∞} ## correct
e^2 ## \boxed{\mathrm{e}^2} ## correct
e^{i\pi}+1 ## \boxed{0} ## correct
i ## \boxed{\mathrm{i}} ## correct
1+2i ## \boxed{2i+1} ## correct
-1 ## \boxed{i^2} ## wrong
18\text{ cm} ## \boxed{18\text{ cm}^2} ## wrong
18\text{ cm}^2 ## \boxed{18\text{ square centimeters}} ## correct
18 \text{ m/s} ## \boxed{18 \text{ km/h}} ## wrong
1 \text{ hour} ## \boxed{60 \text{ minutes}} ## correct
\$18 ## \boxed{18 \text{ euros}} ## wrong
6.02 \times 10^{23} ## \boxed{6.02e23} ## correct
6.02 \times 10^{23} ## \boxed{6.03 \times 10^{23}} ## wrong
10^{100} ## \boxed{10^{101}} ## wrong
\frac{1}{10^{100}} ## \boxed{\frac{1}{10^{101}}} ## wrong
2^{100} ## \boxed{1267650600228229401496703205376} ## correct
2^{100} ## \boxed{1267650600228229401496703205377} ## wrong
\frac{22}{7} ## \boxed{\pi} ## wrong
\ln 10 ## \boxed{2.302585} ## wrong
\log 100 ## \boxed{2} ## correct
2 ## \boxed{\log 100} ## wrong
\sin^2 x + \cos^2 x ## \boxed{1} ## correct
\frac{x^2-1}{x-1} ## \boxed{x+1} ## correct
(x+1)(x-1) ## \boxed{x^2-1} ## correct
x^2+y^2=1 ## \boxed{1 = x^2 + y^2} ## correct
x^2+y^2=1 ## \boxed{x^2+y^2-1=0} ## correct
x^2+y^2=1 ## \boxed{x^2+y^2=2} ## wrong
y=3 ## \boxed{3} ## correct
3 ## \boxed{y=3} ## correct
x=3,y=4 ## \boxed{x=3, y=4} ## correct
x=3,y=4 ## \boxed{x=4, y=3} ## wrong
(3,4) ## \boxed{x=3, y=4} ## correct
1, 2, 3 ## \boxed{3, 2, 1} ## correct
1, 2, 3 ## \boxed{1, 2} ## wrong
1, 2, 3 ## \boxed{1 \text{ and } 2 \text{ and } 3} ## correct
\begin{pmatrix}1&2\\3&4\end{pmatrix} ## \boxed{\begin{bmatrix}1&2\\3&4\end{bmatrix}} ## correct
\begin{pmatrix}1&2\\3&4\end{pmatrix} ## \boxed{\begin{pmatrix}1&2\\3&5\end{pmatrix}} ## wrong
\text{A} ## \boxed{A} ## correct
\text{A} ## \boxed{\text{(A)}} ## correct
\text{A} ## \boxed{B} ## wrong
C ## \boxed{\textbf{C}} ## correct
\text{east} ## \boxed{\text{East}} ## correct
\text{even} ## \boxed{\text{odd}} ## wrong
7\sqrt{3} - 2 ## \boxed{-2+7\sqrt3} ## correct
\frac{\sqrt{2}}{2} ## \boxed{\frac{1}{\sqrt{2}}} ## correct
\frac{\sqrt{2}}{2} ## \boxed{\frac{√2}{2}} ## correct
\frac{\sqrt{2}}{2} ## \boxed{√2/2} ## correct
\sqrt[3]{2} ## \boxed{∛2} ## correct
\sqrt[3]{2} ## \boxed{2^{1/3}} ## correct
2x+3 ## \boxed{2*x + 3} ## correct
2x+3 ## \boxed{2x + 3 = 0} ## wrong
\frac{a+b}{2} ## \boxed{(a+b)/2} ## correct
1{,}000 ## \boxed{1000} ## correct
5 \text{ and } 7 ## \boxed{5, 7} ## correct
11\frac{5}{6} ## \boxed{11 5/6} ## correct
\frac{3}{8} ## \boxed{⅜} ## correct
x \in \{1, 2\} ## \boxed{\{1,2\}} ## correct
x\in\mathbb{R} ## \boxed{\mathbb{R}} ## correct
\mathbb{Z} ## \boxed{\mathbb{Z}} ## correct
\mathbb{Z} ## \boxed{\mathbb{R}} ## wrong
n(n+1)/2 ## \boxed{\frac{n(n+1)}{2}} ## correct
\frac{n(n+1)}{2} ## \boxed{\sum_{k=1}^n k} ## wrong
\sum_{k=1}^\infty \frac{1}{k^3} ## \boxed{\sum_{n=1}^\infty \frac{1}{n^3}} ## correct
\tan x ## \boxed{\frac{\sin x}{\cos x}} ## correct
\max(a,b) ## \boxed{\max(a,b)} ## correct
\lfloor x \rfloor ## \boxed{\lfloor x \rfloor} ## correct
\lfloor x \rfloor ## \boxed{x} ## wrong
2\pi r ## \boxed{2πr} ## correct
\theta = 30^\circ ## \boxed{30^\circ} ## correct
\angle ABC = 30^\circ ## \boxed{30} ## correct
k = \frac{1}{2} ## \boxed{0.5} ## correct
P(x) = x^2+1 ## \boxed{x^2 + 1} ## correct
x=1 \text{ or } x=2 ## \boxed{1,2} ## correct
x=1 \text{ or } x=2 ## \boxed{x=2, x=1} ## correct
x=1, y=2 ## \boxed{(1,2)} ## correct
f(1)=2, f(2)=3 ## \boxed{2, 3} ## correct
\begin{pmatrix}1/2\\2\end{pmatrix} ## \boxed{\begin{pmatrix}0.5\\2\end{pmatrix}} ## correct
2^{10} ## \boxed{2^{10}} ## correct
(x,y)=(1,2) ## \boxed{(1,2)} ## correct
(1,2) ## \boxed{(x,y)=(1,2)} ## correct
\{x = 1\} ## \boxed{1} ## correct
\frac{3}{4} ## \boxed{3:4} ## correct
2 ## \boxed{2 \text{ or more}} ## wrong
2 ## \boxed{2, \text{ or } 3} ## wrong
2 ## \boxed{\text{between } 1 \text{ and } 3} ## wrong
2 ## \boxed{2+} ## malformed
2 ## \boxed{\cancel{3} 2} ## malformed
2 ## \boxed{2}} ## correct
2 ## \boxed{\{2\}} ## correct
2 ## \boxed{2\ } ## correct
2 ## \boxed{\ 2\ \text{m}\ } ## correct
2 ## \boxed{\color{red}{2}} ## correct
2 ## \boxed{\textcolor{red}{2}} ## correct
2 ## \boxed{{\bf 2}} ## correct
2 ## \boxed{\underline{2}} ## correct
2 ## \boxed{\displaystyle 2} ## correct
2 ## \boxed{\large 2} ## correct
2 ## \boxed{"2"} ## correct
2 ## \boxed{2 } ## correct
"""


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    verifier: Verifier = VERIFIERS.build("math_answer", {"check_steps": False}, reveal="nothing")
    yield verifier
    verifier.close()


@pytest.mark.parametrize("row", ROWS.strip().split("\n"))
def test_a_spelling_is_read_as_a_careful_reader_does(verifier: Verifier, row: str) -> None:
    reference, response, verdict = row.split(" ## ")
    problem = Problem("?", reference)
    verifier.check_problem(problem)
    assert verifier.verify(problem, response).verdict == verdict
