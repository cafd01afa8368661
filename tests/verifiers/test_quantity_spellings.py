"""How people write a quantity, beside the rows of docs/answers.md: `reference  |  answer`."""

import pytest

from distil_core.problems.base import Problem
from distil_core.verifiers import VERIFIERS
from distil_core.verifiers.quantity import QuantityVerifier

RIGHT = r"""
10 kΩ  |  10000 Ω
10000 \Omega  |  10\,\mathrm{k\Omega}
10 kΩ  |  10\ \mathrm{k}\Omega
10 kΩ  |  10 k Ω
2 MΩ  |  2e6 ohm
5 mΩ  |  0.005 ohm
5 Ω·m  |  5 \Omega\cdot\text{m}
5 Ω m  |  5 ohm-meters
5 Å  |  5 angstroms
5 Å  |  5\,\text{\AA}
5 Å  |  5 Å
5 Å  |  5 Å
5 nm  |  50 Å
5 MJ  |  5 MJoule
5 mJ  |  5 millijoules
5 MJ  |  5 Megajoules
5 MHz  |  5 megahertz
5 mHz  |  5 mHertz
5 kHz  |  5 KHz
5 kHz  |  5 khz
25 °C  |  25 ℃
25 °C  |  25^\circ C
25 °C  |  25^{\circ}\mathrm{C}
25 °C  |  25 deg C
25 °C  |  25 degrees C
25 °C  |  77 °F
25 °C  |  77 degrees Fahrenheit
25 °C  |  298.15 kelvins
0 °C  |  273.15 K
0 °C  |  32 °F
30°  |  30 degrees
30°  |  \pi/6 rad
0.5 rad  |  0.5 radians
6.283 m  |  2\pi m
1.414 m  |  \sqrt{2} m
6.283 m  |  2π m
5 m^2  |  5 square metres
5 m^2  |  5 sq m
5 m^2  |  5 sq. m
5 m^2  |  5 meters squared
5 m^2  |  5 m²
5 m^2  |  50000 cm^2
5 m^3  |  5 cubic meters
5 m^3  |  5 meters cubed
5 m^3  |  5000 liters
5 cm^3  |  5 cc
5 cm^3  |  5 mL
5 ft^3  |  5 cu ft
9.8 m/s^2  |  9.8 meters per second per second
9.8 m/s^2  |  9.8 meters per square second
9.8 m/s^2  |  9.8 N/kg
5 m  |  \SI{5}{\metre}
5 km  |  \SI{5}{km}
3e8 m/s  |  \SI{3e8}{m.s^{-1}}
5 m^2  |  \SI{5}{\square\metre}
5 m^2  |  \SI{5}{\metre\squared}
8.3 J/(mol K)  |  \SI{8.3}{\joule\per\mole\per\kelvin}
5 N/C  |  \SI[per-mode=symbol]{5}{\newton\per\coulomb}
5 µF  |  \SI{5}{\micro\farad}
5 kΩ  |  \SI{5}{\kilo\ohm}
25 °C  |  \SI{25}{\celsius}
25 °C  |  \SI{25}{\degreeCelsius}
5 m  |  \num{5} m
5 m  |  5\,\si{m}
30°  |  \ang{30}
5 m  |  5\,\unit{\metre}
0.5 m  |  1/2 m
0.5 m  |  ½ m
1.5 m  |  1\frac{1}{2} m
1.5 m  |  3/2 m
0.5 m  |  \frac12 m
0.5 m  |  \dfrac{1}{2}\text{ m}
0.75 m  |  ¾ m
90 min  |  1 hour 30 minutes
90 min  |  1 hour and 30 minutes
90 min  |  1h30min
90 min  |  1 h, 30 min
1.5 h  |  1 hr 30 min
5400 s  |  1 h 30 min 0 s
66 in  |  5' 6"
1.6764 m  |  5 feet 6 inches
30.25°  |  30° 15'
30.25°  |  30°15′00″
5.3 m  |  5 m 30 cm
2.1875 lb  |  2 lb 3 oz
90 s  |  1 min 30 sec
90 min  |  1.5 hours
1 day  |  24 h
2 weeks  |  14 days
1000 m  |  1{,}000 m
1000 m  |  1,000 m
1000000 m  |  1 000 000 m
5000 m  |  5\,000 m
5 m  |  \textbf{5 m}
5 m  |  **5** m
5 m  |  `5 m`
5 m  |  $5$ m
5 m  |  $5\text{ m}$
5 m  |  5 m.
5 m  |  5\ \mathrm{m}
5 m  |  5\mathrm{~m}
5 m  |  ５ m
-5 m  |  −5 m
5 %  |  5 percent
5 %  |  5 per cent
5 %  |  5\%
0.05  |  5%
5 %  |  50 ‰
5 ppm  |  0.0005%
5 Sv  |  5000 mSv
5 Gy  |  500 rads
5 Sv  |  500 rem
5 lm  |  5 lumens
5 lux  |  5 lm/m^2
5 Bq  |  5 s^-1
5 Hz  |  5 1/s
5 Hz  |  5 cycles per second
1 Hz  |  60 rpm
60 rpm  |  1 rev/s
60 revolutions per minute  |  60 rpm
5 N·m  |  5 Nm
5 N m  |  5000 N mm
5 N m  |  5 kg m^2/s^2
5 J  |  5 W s
5 W  |  5 J/s
5 W  |  5 V A
5 photons  |  5 photons
5  |  5
8 bits  |  1 byte
5 dB  |  5 decibels
5 m  |  x = 5 m
5 N  |  F_{net} = 5 N
5 N  |  F = 2.5 * 2 = 5 N
5 m  |  \approx 5 m
5 m  |  5 = 5 m
5 eV  |  5 electron volts
5 MeV  |  5 mega electron volts
5 ly  |  5 light-years
5 AU  |  5 astronomical units
5 mmHg  |  5 mm Hg
5 atm  |  5 atmospheres
760 mmHg  |  1 atm
760 torr  |  1 atm
5 psi  |  5 pounds per square inch
5 kWh  |  18 MJ
5 kWh  |  5 kilowatt-hours
5 km/h  |  5 kilometers per hour
5 km/h  |  5 kmph
5 mph  |  5 miles per hour
5 T  |  50000 G
5 T  |  50000 gauss
5 M  |  5 mol/L
5 mM  |  5e-3 mol/L
5 g/mol  |  5 grams per mole
5 W/(m K)  |  5 watts per meter kelvin
5 W/(m K)  |  5 W m^-1 K^-1
5 W/(m^2 K)  |  5 W/m²K
8.314 J/(mol K)  |  8.314 J/mol·K
5 V/m  |  5 N/C
5 kPa  |  5000 N/m^2
5 kg  |  5 Kg
5 hbar  |  5 ħ
5 ħ  |  5\hbar
0.8 c  |  0.8c
3 million m  |  3e6 m
5 mN  |  5e-3 N
5 C  |  5 coulombs
5 F  |  5 farads
5 H  |  5 henries
5 Wb  |  5 webers
5 S  |  5 siemens
5 lb  |  5 pounds
2 mol  |  2 moles
5 µm  |  5 μm
5 µm  |  5 um
5 µm  |  5 \mu m
5 µm  |  5\,\mu\mathrm{m}
5 µC  |  5\ \mathrm{\mu C}
5 µs  |  5 microseconds
5 L  |  5 ℓ
5 J/K  |  5 J/°C
10 m/s  |  The answer is 10 m/s
1 cycle  |  1 revolution
5 diopters  |  5 m^-1
5 D  |  5 debye
5 dm^3  |  5 l
5 kcal  |  5 Cal
5 N  |  5 newtons
5 N  |  5 kg m s-2
5 N  |  5 kg·m/s²
5 V  |  5 Volts
5 A  |  5 amps
5 °  |  5°
5 ft-lb  |  5 foot-pounds
5 h  |  5 hrs
5 kΩ  |  5 kiloohms
5 kΩ  |  5 kilohms
5 kΩ  |  5 kilo-ohms
5 MΩ  |  5 megohms
5 kΩ  |  5\text{ k}\Omega
5 kΩ  |  5\;k\Omega
5 kΩ  |  $5\,k\Omega$
5 kΩ  |  5k\Omega
5 kΩ  |  5kΩ
47 µΩ  |  47 \mu\Omega
5 GΩ  |  5000 MΩ
5 nΩ  |  5e-9 Ω
5 Ω  |  5\,\ohm
5 Ω  |  5 Ohms
5 Ω  |  5 OHM
5 nÅ  |  5e-9 Å
5 kÅ  |  500 nm
5 MJ  |  5 megajoules
5 MPa  |  5 Megapascals
5 MW  |  5 Mwatts
5 mW  |  5 milliWatts
5 GHz  |  5 gigaHertz
5 mA  |  5 milliamps
5 kN  |  5 KN
25 °C  |  25°C
25 °C  |  25 Celsius
25 °C  |  25 °Celsius
25 °C  |  25 degree celsius
25 °C  |  25 \text{ degrees Celsius}
25 °C  |  25\,^{\circ}C
25 °C  |  25^\circ\text{C}
25 °C  |  25\degree C
-40 °C  |  -40 °F
300 K  |  300 kelvin
300 K  |  300 degrees Kelvin
300 K  |  26.85 °C
77 °F  |  25 °C
45°  |  45 deg
45°  |  45^\circ
45°  |  45 degrees
45°  |  0.785 rad
45°  |  \frac{\pi}{4} \text{ radians}
45°  |  π/4 rad
\pi/4 rad  |  45°
1.57 rad  |  \frac{\pi}{2}
30°  |  30.0 degrees
30.5°  |  30°30'
12.5 arcsec  |  12.5''
90 deg  |  0.25 turn
5 m^2  |  5 m2
5 m^2  |  5 \text{m}^2
5 m^2  |  5\text{ m}^2
5 m^2  |  5\,\mathrm{m^2}
5 m^2  |  5 square-meters
5 m^2  |  5 sq meters
5 m^2  |  5 sqm
5 ft^2  |  5 square feet
5 ft^2  |  5 sq ft
5 km^2  |  5 square kilometers
5 in^2  |  5 square inches
5 m^3  |  5 cubic meter
5 cm^3  |  5 cubic cm
5 cm^3  |  5 ccs
5 L  |  5 litres
5 L  |  5 dm³
5 ft^3  |  5 cubic feet
1 ha  |  10000 square meters
5 acres  |  5 acre
2 gal  |  2 gallons
500 mL  |  500 milliliters
500 mL  |  0.5 l
5 cm^3  |  5 cm cubed
9.8 m/s^2  |  9.8 m/sec^2
9.8 m/s^2  |  9.8 m s^{-2}
9.8 m/s^2  |  9.8\,\mathrm{m\,s^{-2}}
9.8 m/s^2  |  9.8 \frac{m}{s^2}
9.8 m/s^2  |  9.8 \frac{\text{m}}{\text{s}^2}
9.8 m/s^2  |  9.8 m/s/s
9.8 m/s^2  |  9.8 metres per second squared
5 m  |  \SI{5.0}{\meter}
5 m  |  \qty{5}{m}
5 km/h  |  \SI{5}{\km\per\hour}
5 km/h  |  \qty{5}{\kilo\metre\per\hour}
5 MHz  |  \SI{5}{\mega\hertz}
5 MHz  |  \SI{5}{\MHz}
5e3 m  |  \SI{5e3}{\m}
9.8 m/s^2  |  \SI{9.8}{\metre\per\second\squared}
9.8 m/s^2  |  \SI{9.8}{\meter\per\square\second}
9.8 m/s^2  |  \SI{9.8}{m/s^2}
9.8 m/s^2  |  \SI{9.8}{\m\s\tothe{-2}}
5 %  |  \SI{5}{\percent}
30°  |  \SI{30}{\degree}
5 Å  |  \SI{5}{\angstrom}
5 µm  |  \SI{5}{\um}
5 N m  |  \SI{5}{\newton\metre}
4.5 eV  |  \SI{4.5}{\electronvolt}
4.5 eV  |  \SI{4.5}{\eV}
5 L  |  \SI{5}{\litre}
2.5 m  |  2\tfrac{1}{2} m
2.5 m  |  2 ½ m
2.5 m  |  5/2 m
2.5 m  |  2 \frac{1}{2}\text{ m}
0.333 m  |  ⅓ m
0.125 in  |  1/8 in
-0.5 m  |  -½ m
-0.5 m  |  -\frac{1}{2} m
0.5 m  |  1⁄2 m
5.5 m  |  5 1/2 m
3.5 h  |  3 hours 30 minutes
3 h 30 min  |  3.5 h
3 h 30 min  |  210 minutes
3665 s  |  1 h 1 min 5 s
3665 s  |  1 hour, 1 minute, and 5 seconds
36 h  |  1 day 12 hours
36 h  |  1 d 12 h
150 min  |  2 hrs 30 mins
90 min  |  1 h + 30 min
90 min  |  1\text{ h }30\text{ min}
90 min  |  1\,\mathrm{h}\,30\,\mathrm{min}
5.5 ft  |  5 ft 6 in
5.5 ft  |  5 feet, 6 inches
5.5 ft  |  5'6"
5.5 ft  |  5 ft. 6 in.
5000 m  |  5~000 m
12345.6 m  |  12 345.6 m
1234567 m  |  1,234,567 m
5 m  |  __5 m__
5 m  |  *5 m*
5 m  |  \mathbf{5}\,\text{m}
5 m  |  \mathbf{5 \text{ m}}
5 m  |  \boldsymbol{5\,\mathrm{m}}
5 m  |  {5\,\rm m}
5 m  |  $$5\text{ m}$$
5 m  |  \( 5 \text{ m} \)
5 m  |  5 [m]
5 m  |  5 (m)
5 m  |  (5 m)
5 m  |  5-m
50 %  |  1/2
50 %  |  0.5
0.5  |  50 percent
50%  |  ½
50 %  |  50 percent
120%  |  1.2
5 Gy  |  5 gray
5 Gy  |  5 grays
5 Sv  |  5 J/kg
5 kat  |  5 mol/s
5 Ci  |  1.85e11 Bq
5 cd  |  5 lm/sr
5 Bq  |  5 decays per second
5 Bq  |  5 counts per second
5 Bq  |  5 becquerels
5 Hz  |  5 hertz
5 Hz  |  5 cycles/s
5 Hz  |  300 rpm
5 Hz  |  5 vibrations per second
5 rad/s  |  5 s^-1
5 N·m  |  5 newton-meters
5 N·m  |  5 newton meters
5 lbf ft  |  6.779 N m
5 eV  |  8.01e-19 J
5 J  |  5 N·m
5 sr  |  5
4 atoms  |  4 atoms
8 Mbit  |  1 MB
5 kVA  |  5000 V A
1 kWh  |  3.6e6 J
1 Wh  |  3600 J
2 hp  |  1491.4 W
20 dB  |  20 dB
20 dB  |  2 bel
5 m  |  v = 5 m
5 m  |  5 m = 500 cm
5 m  |  500 cm = 5.0 m
5 m  |  d = 10/2 = 5 m
5 m  |  d = \frac{10}{2} m = 5 m
5.62 m  |  5.618 m ≈ 5.62 m
5 m  |  5m
5 m  |  5 meter
5 m  |  5 metres
5 m/s  |  5 m/s^1
5 m  |  ~5 m
5 m  |  about 5 m
5e-3 m  |  5E-3 m
5e-3 m  |  5 x 10^-3 m
5e-3 m  |  5×10⁻³ m
5e-3 m  |  5·10^{-3} m
5e3 m  |  5*10**3 m
1000 kg/m^3  |  1 g/cc
1000 kg/m^3  |  1 g cm^-3
5 Pa s  |  5 Pa·s
5 Pa s  |  5 kg/(m s)
5 Pa s  |  50 poise
5 V  |  5 J/C
6.626e-34 J s  |  6.626e-34 J·s
6.626e-34 J s  |  6.626e-34 joule-seconds
6.626e-34 J s  |  6.626 \times 10^{-34} \mathrm{J\cdot s}
0.5 c  |  1.5e8 m/s
931.5 MeV/c^2  |  1 u
5 MeV/c  |  5 MeV/c
1.6e-19 C  |  1 e
5 kg m/s  |  5 kg·m/s
5 kg m/s  |  5 N s
5 kg m/s  |  5 newton-seconds
5 W/m^2  |  5 watts per square meter
5 g/L  |  5 grams per liter
5 mol/L  |  5 moles per litre
5 kJ/mol  |  5 kilojoules per mole
5 kJ/mol  |  5 kJ mol⁻¹
3 yr  |  3 years
3 Myr  |  3 million years
5 bar  |  5 bars
5 atm  |  5 atmosphere
5 inches  |  5 in
5 inches  |  5"
5 lb  |  5 lbs
5 oz  |  5 ounces
5 mi  |  5 miles
5 knots  |  5 kn
60 mph  |  60 mi/h
60 mph  |  88 ft/s
5 kcal  |  5 kilocalories
100 kPa  |  1 bar
5 m/s  |  5\,\text{m/s}
5 m/s  |  5\;\frac{\text{m}}{\text{s}}
5 m/s  |  \text{5 m/s}
5 m/s  |  v=5\,\text{m/s}
5 m/s  |  5\,\mathrm{m}\cdot\mathrm{s}^{-1}
5000 kg/m^3  |  5\times10^{3}\,\text{kg}\,\text{m}^{-3}
5 m/s  |  \approx 5.0\ \text{m/s}
5 m/s^2  |  5.0 \, \text{m/s}^2
5 m/s^2  |  5.0 \, \text{m s}^{-2}
5 m/s  |  5\text{ m}/\text{s}
5 N m  |  5~\text{N}\cdot\text{m}
5 N  |  \mathbf{5.0~N}
5 µC  |  5\,\text{µC}
-5 µC  |  -5\,\mu\text{C}
5 µC  |  5 \text{ }\mu\text{C}
5 µm  |  5\ \upmu m
5.0 \times 10^{-3} m  |  5.0\times 10^{-3}\,\text{m}
5 m  |  5.\,\mathrm{m}
2.998e8 m/s  |  2.998 \times 10^8\ \text{m s}^{-1}
2.998e8 m/s  |  2.998 \cdot 10^{8}\,\frac{m}{s}
8.314 J/(mol K)  |  8.314\,\text{J}\,\text{mol}^{-1}\text{K}^{-1}
8.314 J/(mol K)  |  8.314\,\frac{\text{J}}{\text{mol K}}
8.314 J/(mol K)  |  8.314\,\mathrm{J/(mol\cdot K)}
8.314 J/(mol K)  |  8.314\,\text{J/mol}\cdot\text{K}
5 m^2  |  5\,\text{m}^2
5 m^2  |  5\text{ square meters}
72 degrees  |  72^\circ
72^\circ  |  72 \text{ degrees}
10 V  |  V = IR = 2\,\text{A} \times 5\,\Omega = 10\,\text{V}
10 V  |  2\,\text{A} \times 5\,\Omega = 10\,\text{V}
5 m  |  \text{distance} = 5\text{ m}
5 m  |  d \approx 5\text{ m}
3.5e-7 T  |  3.5\times 10^{-7}\ \text{T}
1.5 kg m^2  |  1.5\ \text{kg}\cdot\text{m}^2
1.5 kg m^2  |  1.5\ \text{kg m}^2
100 W  |  100\text{ Watts}
4.2 J/(g °C)  |  4.2\text{ J/g°C}
4.2 J/(g °C)  |  4.2\ \text{J/(g}\cdot{}^\circ\text{C)}
4.2 J/(g K)  |  4.2\ \text{J/(g}\cdot{^\circ}\text{C)}
"""
NOT_RIGHT = r"""
5 MΩ  |  5 mΩ
5 mW  |  5 MW
2 m  |  2\pi m
5 m^2  |  5 m
1.5 m  |  1½
90 min  |  1 h 30 s
90 min  |  30 min 1 h
5 m  |  5 m 3 m
5 %  |  0.05 m
5 Sv  |  5 Gy
5 lux  |  5 cd/m^2
5 Bq  |  5 Hz
60 rpm  |  60 Hz
5 photons  |  1 photon
5  |  5 atoms
8 bits  |  8
5 m  |  5
5 m  |  x = 5 m or x = 7 m
7 m  |  x = 5 m or x = 7 m
5 m  |  \ne 5 m
5 m  |  5 ± 1 m
5 m  |  5-7 m
5 m  |  5 m?
5 m  |  5 banana
5 m  |  4 = 5 m
5 mN  |  5 million N
5 m  |  5 feet
5 MJ  |  5 mJ
5 mm  |  5 Mm
5 MPa  |  5 mPa
5 PJ  |  5 pJ
5 mA  |  5 MA
5 m  |  5 M
5 s  |  5 S
5 g  |  5 G
5 K  |  5 k
5 T  |  5 t
25 °C  |  26 °C
25 °C  |  25 K
45°  |  π/4
9.8 m/s^2  |  9.8 m/s
1.5e-3 m  |  \SI{1.5d-3}{m}
5 m  |  \SI{6}{m}
51/2 m  |  5 1/2 m
90 min  |  1 h 30 m
90 min  |  1 h 30 min 5 kg
5 m  |  5,0 m
5 m  |  5 m (approx)
50 %  |  50
0.5  |  50
5 mSv  |  5 mGy
5 cd  |  5 lux
31.4159 rad/s  |  5 Hz
5 N m  |  5 joules
5 sr  |  5 rad
3 mol  |  3
3  |  3 mol
6.022e23 atoms  |  1 mol
4  |  4 electrons
12 photons  |  12 particles
3  |  3 bits
5 VA  |  5 W
20  |  20 dB
5 m  |  5 m, 5 m
5 m  |  between 4 and 6 m
5 m  |  5 m or 500 cm
5 m  |  4 m ≈ 5 m
5 m  |  five meters
5 m/s  |  5 m/s north
5 m  |  5 m ± 0.1 m
5 W b  |  5 Wb
8 m  |  5 m + 3 m
5.3 m  |  5 m + 0.3 m
6 ft  |  5 ft 12 in
5.3 m  |  5 m 0.3 m
90 min  |  1 h + 30 min + 30 min
5 m  |  5\,\text{m (to the right)}
5 m  |  5}\text{ m
72^\circ  |  72
"""


def pairs(table: str) -> list[list[str]]:
    return [line.split("  |  ") for line in table.strip("\n").split("\n")]


@pytest.fixture(scope="module")
def verifier() -> QuantityVerifier:
    built: QuantityVerifier = VERIFIERS.build("quantity", {}, reveal="nothing")
    return built


@pytest.mark.parametrize(("reference", "answer"), pairs(RIGHT))
def test_spellings_of_the_right_answer(
    verifier: QuantityVerifier, reference: str, answer: str
) -> None:
    problem = Problem("?", reference)
    verifier.check_problem(problem)
    result = verifier.verify(problem, f"\\boxed{{{answer}}}")
    assert result.verdict == "correct", result


@pytest.mark.parametrize(("reference", "answer"), pairs(NOT_RIGHT))
def test_what_a_careful_reader_does_not_accept(
    verifier: QuantityVerifier, reference: str, answer: str
) -> None:
    problem = Problem("?", reference)
    verifier.check_problem(problem)
    assert verifier.verify(problem, f"\\boxed{{{answer}}}").verdict in ("wrong", "malformed")
